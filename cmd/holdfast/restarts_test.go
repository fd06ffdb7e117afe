package main

import (
	"bytes"
	"errors"
	"regexp"
	"syscall"
	"testing"
)

// A log that is read later tells when the gateway was started, as what, and when and how it was stopped.
func TestLogTellsRestarts(t *testing.T) {
	var log bytes.Buffer
	s := newStageLogging(t, "info", &log)
	process := s.process
	s.process = nil
	if err := errors.Join(process.Process.Signal(syscall.SIGTERM), process.Wait()); err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?s)level=INFO msg=serving address=127\.0\.0\.1:\d+ version=\S+ store=SQLite centres=3\n.*level=INFO msg=stopping\n.*level=INFO msg=stopped took=`)
	if !want.Match(log.Bytes()) {
		t.Errorf("the log does not tell of the start and the stop: %s", log.String())
	}
}
