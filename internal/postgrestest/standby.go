package postgrestest

import (
	"testing"
)

// Standby starts a second server that follows this one synchronously: from its return on a commit is acknowledged
// only when both have it on their disks (synchronous_commit=on). name is what it is called in
// synchronous_standby_names: a word of small letters.
func (s *Server) Standby(t testing.TB, name string) *Server {
	t.Helper()
	standby, err := newServer(name, append(s.own, "synchronous_standby_names=")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { standby.discard(t) })
	from := s.adminDSN() + " application_name=" + name
	err = run("pg_basebackup", "--pgdata", standby.data(), "--dbname", from, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	if err == nil {
		err = standby.up()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Exec(t, `ALTER SYSTEM SET synchronous_standby_names = '`+name+`'`, `SELECT pg_reload_conf()`)
	s.await(t, `SELECT sync_state FROM pg_stat_replication WHERE application_name = '`+name+`'`, "sync")
	return standby
}

// Promote makes a standby a primary, and returns when it takes writes. It waits for no standby of its own.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	if promoted := s.Ask(t, `SELECT pg_promote(true, 60)`); promoted != "true" {
		t.Fatalf("the standby is not promoted within 60 s; its log ends:\n%s", s.LogTail())
	}
	s.await(t, `SELECT pg_is_in_recovery()`, "false")
}
