package main

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Where the process may open few files, idle connections make room for others all the same, and the log says what to do.
func TestFewFiles(t *testing.T) {
	s := newStage(t)
	s.kill()
	service := s.launch("ulimit -n 64;", nil)
	url := service.said["api"]
	for range 300 {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	client := http.Client{Timeout: 4 * time.Second} // silent ones are closed after 5 seconds anyhow
	res, err := client.Get(url + "/readyz")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("with 300 idle connections: %v, %v", res, err)
	}
	service.end(t)
	if log := service.log.String(); strings.Count(log, "LimitNOFILE") != 1 || strings.Contains(log, "level=ERROR") {
		t.Errorf("the log does not say once what to do: %s", log)
	}
}
