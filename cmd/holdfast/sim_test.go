package main

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// A simulator that withholds an answer stops all the same, and in good time: else it says that it could not.
func TestSimulatorStopsWhileItWithholdsAnAnswer(t *testing.T) {
	base, stop, err := serveSim("127.0.0.1:0", quiet(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(base+"/sim/faults", "application/json", strings.NewReader(`{"method":"rbs.register","fault":"withheld"}`))
	if err != nil || res.StatusCode >= 300 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	left := make(chan error, 1)
	go func() {
		res, err := http.PostForm(base+"/rbs/rest/register.do", url.Values{"userName": {"holdfast"}, "password": {"holdfast"}, "orderNumber": {"1"}, "amount": {"100"}, "returnUrl": {"https://shop.example/"}})
		if err == nil {
			err = res.Body.Close()
		}
		left <- err
	}()
	// The fault is taken when the call is there.
	for deadline := time.Now().Add(patience); ; {
		res, err := http.Get(base + "/sim/faults")
		if err != nil {
			t.Fatal(err)
		}
		waiting, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(waiting), `"withheld"`) {
			break
		}
		if len(left) > 0 || time.Now().After(deadline) {
			t.Fatal("no answer was withheld")
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
}

// A simulator that cannot say where it serves ends as one that did not work.
func TestSimulatorSaysWhereOrFails(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2") // what the command sets otherwise would stay for the tests after this one
	t.Setenv("GOGC", "100")
	nowhere, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	nowhere.Close()
	var complaints strings.Builder
	if code := (program{stdout: nowhere, stderr: &complaints}).run(t.Context(), []string{"sim", "--listen", "127.0.0.1:0"}); code != 1 {
		t.Errorf("it ends %d, want 1: %s", code, complaints.String())
	}
}
