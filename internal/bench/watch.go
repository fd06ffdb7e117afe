package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process took of the machine during a run. Where the kernel tells nothing (it does on
// Linux), it is zero.
type Usage struct {
	CPUSeconds float64 `json:"cpu_seconds"`
	PeakMiB    int64   `json:"peak_mib"`
	WroteMiB   int64   `json:"wrote_mib"` // to the disk
}

// Sample is how things stood at a time of the run.
type Sample struct {
	Seconds           float64          `json:"at_seconds"`
	PaymentsPerSecond float64          `json:"payments_per_second"` // since the sample before
	MemoryMiB         map[string]int64 `json:"memory_mib,omitempty"`
	LogMiB            int64            `json:"wal_mib,omitempty"`
}

const (
	sampleEvery = time.Second
	maxSamples  = 120 // past them every other one is dropped, and they are taken half as often
)

// watch looks at a run from outside, once a second.
type watch struct {
	run      *run
	before   map[string]taken
	samples  []Sample
	stride   int // seconds between samples
	logPeak  int64
	stop     chan struct{}
	finished chan struct{}
}

func startWatch(r *run) *watch {
	w := &watch{run: r, before: make(map[string]taken), stride: 1, stop: make(chan struct{}), finished: make(chan struct{})}
	for name, pid := range r.cfg.Processes {
		forgetPeak(pid)
		w.before[name] = takenBy(pid)
	}
	go w.loop()
	return w
}

func (w *watch) loop() {
	defer close(w.finished)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	last, lastSampled := int64(0), int64(0)
	for second := 1; ; second++ {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
		elapsed, payments := time.Since(w.run.began), w.run.payments.Load()
		if tell := w.run.cfg.Progress; tell != nil {
			tell(Progress{Elapsed: elapsed, Payments: payments, LastRate: payments - last, Errors: w.run.errors.Load()})
		}
		last = payments
		logSize := w.logSize()
		w.logPeak = max(w.logPeak, logSize)
		if second%w.stride != 0 {
			continue
		}
		since := 0.0
		if n := len(w.samples); n > 0 {
			since = w.samples[n-1].Seconds
		}
		s := Sample{Seconds: elapsed.Seconds(), LogMiB: logSize >> 20, PaymentsPerSecond: float64(payments-lastSampled) / (elapsed.Seconds() - since)}
		lastSampled = payments
		for name, pid := range w.run.cfg.Processes {
			if s.MemoryMiB == nil {
				s.MemoryMiB = make(map[string]int64)
			}
			s.MemoryMiB[name] = residentMiB(pid)
		}
		w.samples = append(w.samples, s)
		if len(w.samples) == maxSamples {
			w.samples, w.stride = thin(w.samples), 2*w.stride
		}
	}
}

// thin drops every other sample; a rate is then over both times.
func thin(samples []Sample) []Sample {
	since := 0.0
	for i := range len(samples) / 2 {
		a, b := samples[2*i], samples[2*i+1]
		b.PaymentsPerSecond = (a.PaymentsPerSecond*(a.Seconds-since) + b.PaymentsPerSecond*(b.Seconds-a.Seconds)) / (b.Seconds - since)
		since = b.Seconds
		samples[i] = b
	}
	return samples[:len(samples)/2]
}

func (w *watch) logSize() int64 {
	if w.run.cfg.Log == "" {
		return 0
	}
	info, err := os.Stat(w.run.cfg.Log)
	if err != nil {
		return 0 // it is made with the first write
	}
	return info.Size()
}

// end stops watching and writes what was seen into the result.
func (w *watch) end(result *Result) {
	for name, pid := range w.run.cfg.Processes {
		if result.Processes == nil {
			result.Processes, result.CPUPerPayment = make(map[string]Usage), make(map[string]int64)
		}
		now, before := takenBy(pid), w.before[name]
		cpu, wrote := now.cpu-before.cpu, now.wrote-before.wrote
		result.Processes[name] = Usage{CPUSeconds: cpu.Seconds(), PeakMiB: now.peak >> 20, WroteMiB: wrote >> 20}
		if n := result.Payments; n > 0 {
			result.CPUPerPayment[name] = cpu.Microseconds() / n
			if name == Gateway {
				result.BytesPerPayment = wrote / n
			}
		}
	}
	close(w.stop)
	<-w.finished
	result.Samples, result.LogPeakMiB = w.samples, max(w.logPeak, w.logSize())>>20
}

// Gateway is what the gateway's process is called among Config.Processes.
const Gateway = "gateway"

// taken is what the kernel has counted for a process so far.
type taken struct {
	cpu         time.Duration
	peak, wrote int64 // bytes
}

func takenBy(pid int) (t taken) {
	const ticksPerSecond = 100 // what Linux counts in towards programs, on every architecture
	if stat, err := os.ReadFile(proc(pid, "stat")); err == nil {
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 12 {
			for _, field := range f[11:13] { // in its own code, and in the kernel's for it
				n, _ := strconv.Atoi(field)
				t.cpu += time.Duration(n) * time.Second / ticksPerSecond
			}
		}
	}
	t.peak = number(proc(pid, "status"), "VmHWM:") << 10
	t.wrote = number(proc(pid, "io"), "write_bytes:")
	return t
}

// forgetPeak makes the kernel measure a process's peak of memory from now on. Where it does not, the peak is
// since the process's start.
func forgetPeak(pid int) { _ = os.WriteFile(proc(pid, "clear_refs"), []byte("5"), 0) }

func residentMiB(pid int) int64 { return number(proc(pid, "status"), "VmRSS:") >> 10 }

func proc(pid int, file string) string { return filepath.Join("/proc", strconv.Itoa(pid), file) }

// number is what stands behind a key in one of the kernel's files.
func number(file, key string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(key)); ok {
			if f := bytes.Fields(value); len(f) > 0 {
				n, _ := strconv.ParseInt(string(f[0]), 10, 64)
				return n
			}
		}
	}
	return 0
}
