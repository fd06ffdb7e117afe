//go:build !unix

package outward

import "net"

// reach finds nothing: where a read waits for what comes, as on Windows, nobody can see before a request is sent
// whether the server has left the connection open.
func (c *conn) reach(net.Conn) {}
