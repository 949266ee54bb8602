package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The harnesses of bindings/examples as users run them: several processes, over loopback.

// program is one that runs beside the test.
type program struct {
	command *exec.Cmd
	lines   *bufio.Reader
}

// start starts a program; it is killed when the test ends, if it is there then.
func start(t *testing.T, name string, arguments ...string) *program {
	t.Helper()
	p := &program{command: exec.Command(name, arguments...)}
	output, err := p.command.StdoutPipe()
	require.NoError(t, err)
	p.command.Stderr = p.command.Stdout
	p.lines = bufio.NewReader(output)
	require.NoError(t, p.command.Start())
	hung := time.AfterFunc(limit, func() { _ = p.command.Process.Kill() })
	t.Cleanup(func() {
		hung.Stop()
		_ = p.command.Process.Kill()
	})
	return p
}

// until reads lines to the first that begins so, and returns it.
func (p *program) until(t *testing.T, prefix string) string {
	t.Helper()
	var read strings.Builder
	for {
		line, err := p.lines.ReadString('\n')
		read.WriteString(line)
		if strings.HasPrefix(line, prefix) {
			return line
		}
		require.NoError(t, err, "no %q in\n%s", prefix, read.String())
	}
}

// end waits for a good end, and returns what was not read yet.
func (p *program) end(t *testing.T) string {
	t.Helper()
	rest, err := io.ReadAll(p.lines)
	require.NoError(t, err)
	require.NoError(t, p.command.Wait(), "%s", rest)
	return string(rest)
}

// freePorts is the first of so many ports in a row at which nobody listens.
func freePorts(t *testing.T, count int) int {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		port, free := first.Addr().(*net.TCPAddr).Port, true
		require.NoError(t, first.Close())
		for i := range count {
			listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port+i))
			if free = free && err == nil; err == nil {
				require.NoError(t, listener.Close())
			}
		}
		if free {
			return port
		}
	}
	t.Fatal("no ports are free")
	return 0
}

// megabytes is what a line about a phase says in its place.
func megabytes(t *testing.T, output, phase, pattern string) (found float64) {
	t.Helper()
	match := regexp.MustCompile(`(?m)^phase ` + phase + `: .*?([0-9.e+]+) ` + pattern).FindStringSubmatch(output)
	require.NotNil(t, match, output)
	_, err := fmt.Sscan(match[1], &found)
	require.NoError(t, err)
	return found
}

func checkTraining(t *testing.T, name string) {
	t.Helper()
	const ranks, steps, bytes = 3, 30, 1 << 18
	train := func(steps int) (all []*program) {
		port := freePorts(t, ranks)
		for rank := range ranks {
			all = append(all, start(t, name, "--rank", fmt.Sprint(rank), "--hosts", strings.Repeat(",127.0.0.1", ranks)[1:],
				"--port", fmt.Sprint(port), "--steps", fmt.Sprint(steps), "--bytes", fmt.Sprint(bytes)))
		}
		return all
	}
	for rank, one := range train(steps) {
		output := one.end(t)
		assert.Regexp(t, fmt.Sprintf(`^netmon %s, rank %d of %d\n`, regexp.QuoteMeta(version(t)), rank, ranks), output)
		assert.Contains(t, output, fmt.Sprintf("\ntrained %d steps\n", steps))
		assert.Contains(t, output, fmt.Sprintf("\nphase compute: %d times", steps))
		assert.Contains(t, output, fmt.Sprintf("\nphase all_reduce: %d times", steps))
		// Each rank sends the array to the next as often as there are others, and gets as much, some of it while it computes.
		want := float64(steps * 2 * (ranks - 1) * bytes)
		moved := megabytes(t, output, "all_reduce", "MB inside this one") + megabytes(t, output, "compute", "MB inside this one")
		assert.InEpsilon(t, want/1e6, moved, 0.1, output)
		assert.Zero(t, megabytes(t, output, "all_reduce", "MB with other hosts"), output)
	}

	// One that is told to end has all end after the same step.
	all, ends := train(1_000_000), map[string]int{}
	all[0].until(t, "step ") // and the job was looked at
	require.NoError(t, all[1].command.Process.Signal(syscall.SIGTERM))
	for _, one := range all {
		ends[one.until(t, "trained ")]++
		assert.Contains(t, one.end(t), "phase all_reduce: ")
	}
	assert.Len(t, ends, 1, "%v", ends)
}

func checkEvaluation(t *testing.T, name string) {
	t.Helper()
	const batches, answers, bytes = 12, 8, 1 << 17
	port := fmt.Sprint(freePorts(t, 1))
	server := start(t, name, "--serve", "--port", port)
	server.until(t, "serving")
	output := start(t, name, "--port", port, "--batches", fmt.Sprint(batches), "--bytes", fmt.Sprint(bytes)).end(t)
	assert.Contains(t, output, fmt.Sprintf("\nevaluated %d batches, score %d\n", batches, batches*answers))
	assert.Contains(t, output, fmt.Sprintf("\nphase scoring: %d times", batches))
	assert.InEpsilon(t, batches*answers*bytes/1e6, megabytes(t, output, "generation", "MB, "), 0.2, output)
	var stats struct{ Metric string }
	line := regexp.MustCompile(`(?m)^\{"metric".*$`).FindString(output)
	require.NoError(t, json.Unmarshal([]byte(line), &stats), output)
	assert.Equal(t, "phases.generation.last_seconds", stats.Metric)

	// What is not there is a sentence, and a status, in the server as in who asks.
	require.NoError(t, server.command.Process.Signal(syscall.SIGTERM))
	server.end(t)
	r := try(t, nil, name, "--port", port, "--batches", "1")
	assert.Equal(t, 1, r.status, r.output)
	assert.Contains(t, r.output, "Connection refused")
}
