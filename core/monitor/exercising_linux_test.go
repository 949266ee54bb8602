package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/exercise"
	"netmon/core/nettest"
	"netmon/core/sample"
)

// testBy answers a request for a bandwidth test, waiting in slices as the C half does.
func testBy(m *Monitor, request string) (answer sample.BandwidthAnswer, err error) {
	var text bytes.Buffer
	p, err := m.Test([]byte(request))
	for answered := false; err == nil && !answered; {
		answered, err = m.AwaitTest(&p, 100*time.Millisecond, &text)
	}
	if err == nil {
		err = json.Unmarshal(text.Bytes(), &answer)
	}
	return answer, err
}

// newExercising is a monitor with real sockets and programs.
func newExercising(t *testing.T, config string) *Monitor {
	t.Helper()
	parsed, err := ParseConfig([]byte(config))
	require.NoError(t, err)
	parsed.Variables = map[string]string{}
	m, err := New(parsed, Options{Version: "0.0.0-test", Spawn: nettest.Spawn})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// serving is a monitor that serves tests at an address; port 0 is one that is free.
func serving(t *testing.T, address string, port uint16) (*Monitor, string) {
	t.Helper()
	parsed, err := ParseConfig(fmt.Appendf(nil, `{"interval_seconds": 0.05, "bandwidth_server": {"address": %q}}`, address))
	require.NoError(t, err)
	at := parsed.Bandwidth.Addr()
	parsed.Bandwidth = netip.AddrPortFrom(at, port)
	m, err := New(parsed, Options{Version: "0.0.0-test"})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m, m.exercises.Serving().String()
}

func TestBandwidth_betweenTwoMonitors(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		t.Run(address, func(t *testing.T) {
			server, at := serving(t, address, 0)
			m := newExercising(t, `{"interval_seconds": 0.05}`)
			answer, err := testBy(m, fmt.Sprintf(`{"target": %q, "direction": "both", "seconds": 0.3, "parallel": 3}`, at))
			require.NoError(t, err)
			require.True(t, answer.Done)
			require.Len(t, answer.Tests, 2)
			for i, direction := range []string{"transmit", "receive"} {
				row := answer.Tests[i]
				require.Nil(t, row.Error, direction)
				assert.Equal(t, "netmon", row.Tool)
				assert.Equal(t, at, row.Target)
				assert.Equal(t, direction, row.Direction)
				assert.EqualValues(t, 3, *row.Parallel)
				assert.InDelta(t, 0.3, *row.Seconds, 0.2)
				assert.InDelta(t, float64(*row.Bytes) / *row.Seconds, *row.ReceiverBytesPerSecond, 1)
				assert.Greater(t, *row.RTTSeconds, 0.0)
			}
			var text bytes.Buffer
			require.NoError(t, m.Sample(&text))
			var s sample.Sample
			require.NoError(t, json.Unmarshal(text.Bytes(), &s))
			assert.Equal(t, answer.Tests, s.BandwidthTests)
			assert.Empty(t, unexplained(t, text.Bytes()))

			// It rests now.
			answer, err = testBy(m, fmt.Sprintf(`{"target": %q, "seconds": 0.3}`, at))
			require.NoError(t, err)
			require.NotNil(t, answer.Tests[0].Error)
			assert.Contains(t, *answer.Tests[0].Error, "rests after its last test")
			text.Reset()
			require.NoError(t, m.Sample(&text))
			assert.Empty(t, unexplained(t, text.Bytes()))
			server.Close()
		})
	}
}

func TestBandwidth_nobodyServes(t *testing.T) {
	m := newExercising(t, `{}`)
	answer, err := testBy(m, `{"target": "127.0.0.1:1"}`)
	require.NoError(t, err)
	assert.Equal(t, `127.0.0.1:1 refuses the connection: no netmon there answers bandwidth tests; `+
		`start a monitor there with "bandwidth_server"`, *answer.Tests[0].Error)
}

// asked is a test that has to succeed. A server may rest: then it is asked again.
func asked(t *testing.T, m *Monitor, request string) []sample.BandwidthTest {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		answer, err := testBy(m, request)
		require.NoError(t, err)
		if answer.Tests[0].Error != nil && strings.Contains(*answer.Tests[0].Error, "rests") && time.Now().Before(end) {
			continue
		}
		for _, row := range answer.Tests {
			require.Nil(t, row.Error, "%s %v", request, row.Error)
		}
		return answer.Tests
	}
}

// iperf3Server is a real one in a host, on port 5201.
func iperf3Server(t *testing.T, host *nettest.Host) {
	t.Helper()
	if _, err := exec.LookPath("iperf3"); err != nil {
		t.Skip("iperf3 is not installed")
	}
	command := exec.Command("iperf3", "--server")
	host.Do(func() { require.NoError(t, command.Start()) })
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	require.Eventually(t, func() bool {
		out, err := exec.Command("nsenter", "--net="+host.Path(), "ss", "-Hltn", "sport = 5201").Output()
		return err == nil && len(out) > 0
	}, 10*time.Second, 10*time.Millisecond)
}

// teeing is iperf3 with a copy of its output.
func teeing(t *testing.T) (program, output string) {
	t.Helper()
	folder := t.TempDir()
	program, output = filepath.Join(folder, "iperf3"), filepath.Join(folder, "output")
	require.NoError(t, os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\niperf3 \"$@\" | tee %s\n", output), 0o755))
	return program, output
}

// The figure is the one that iperf3 itself writes for the receiver, forward, reverse and parallel.
func TestBandwidth_iperf3sOwnFigure(t *testing.T) {
	_, there := nettest.Pair(t)
	iperf3Server(t, there)
	m := newExercising(t, `{}`)
	for _, tt := range []struct {
		direction string
		parallel  int
	}{{"transmit", 1}, {"receive", 1}, {"transmit", 4}, {"receive", 3}} {
		t.Run(fmt.Sprintf("%s %d", tt.direction, tt.parallel), func(t *testing.T) {
			program, output := teeing(t)
			row := asked(t, m, fmt.Sprintf(`{"tool": "iperf3", "target": %q, "direction": %q, "parallel": %d, "seconds": 1, "program": %q}`,
				there4, tt.direction, tt.parallel, program))[0]
			text, err := os.ReadFile(output)
			require.NoError(t, err)
			var own struct {
				Start struct {
					TestStart struct {
						Reverse int `json:"reverse"`
						Streams int `json:"num_streams"`
					} `json:"test_start"`
				} `json:"start"`
				End struct {
					Sent struct {
						Retransmits uint64  `json:"retransmits"`
						Rate        float64 `json:"bits_per_second"`
					} `json:"sum_sent"`
					Received struct {
						Bytes uint64  `json:"bytes"`
						Rate  float64 `json:"bits_per_second"`
					} `json:"sum_received"`
				} `json:"end"`
			}
			require.NoError(t, json.Unmarshal(text, &own))
			assert.Equal(t, tt.direction == "receive", own.Start.TestStart.Reverse == 1)
			assert.Equal(t, tt.parallel, own.Start.TestStart.Streams)
			assert.EqualValues(t, tt.parallel, *row.Parallel)
			assert.Equal(t, own.End.Received.Bytes, *row.Bytes)
			assert.InEpsilon(t, own.End.Received.Rate/8, *row.ReceiverBytesPerSecond, 1e-9)
			assert.InEpsilon(t, own.End.Sent.Rate/8, *row.SenderBytesPerSecond, 1e-9)
			assert.Equal(t, own.End.Sent.Retransmits, *row.SegmentsRetransmitted)
		})
	}
	answer, err := testBy(m, `{"tool": "iperf3", "target": "`+there4+`:5999", "seconds": 1}`)
	require.NoError(t, err)
	assert.Equal(t, "iperf3 failed: unable to connect to server: Connection refused", *answer.Tests[0].Error)
}

// On a link of 200 Mbit/s netmon's own test says what iperf3 says.
func TestBandwidth_agreesWithIPerf3(t *testing.T) {
	here, there := nettest.Pair(t)
	for _, end := range []struct {
		host   *nettest.Host
		device string
	}{{here, "eth0"}, {there, "far0"}} {
		end.host.Run("tc qdisc add dev " + end.device + " root tbf rate 200mbit burst 32kb latency 20ms")
	}
	iperf3Server(t, there)
	there.Do(func() { serving(t, there4, 29542) })
	m := newExercising(t, `{}`)
	for _, direction := range []string{"transmit", "receive"} {
		for _, parallel := range []int{1, 4} {
			request := fmt.Sprintf(`{"target": %q, "direction": %q, "parallel": %d, "seconds": 3, "tool": `, there4, direction, parallel)
			// A machine that is busy with something else pulls one of the figures down, now and then.
			var own, iperf3 sample.BandwidthTest
			const link = 200e6 / 8 * 1448 / 1514
			for range 5 {
				own, iperf3 = asked(t, m, request+`"netmon"}`)[0], asked(t, m, request+`"iperf3"}`)[0]
				t.Logf("%s %d: netmon %.2f Mbit/s (%d segments again, rtt %.2f ms), iperf3 %.2f (%d)", direction, parallel,
					*own.ReceiverBytesPerSecond*8/1e6, *own.SegmentsRetransmitted, *own.RTTSeconds*1e3, *iperf3.ReceiverBytesPerSecond*8/1e6,
					*iperf3.SegmentsRetransmitted)
				if math.Abs(*own.ReceiverBytesPerSecond / *iperf3.ReceiverBytesPerSecond - 1) < 0.03 &&
					math.Abs(*own.ReceiverBytesPerSecond/link-1) < 0.03 {
					break
				}
			}
			assert.InEpsilon(t, *iperf3.ReceiverBytesPerSecond, *own.ReceiverBytesPerSecond, 0.03)
			assert.InEpsilon(t, link, *own.ReceiverBytesPerSecond, 0.03)
		}
	}
}

// What still is on the queues of a slow link when the time is over is not waited for, and not counted.
func TestBandwidth_slowLink(t *testing.T) {
	here, there := nettest.Pair(t)
	here.Run("tc qdisc add dev eth0 root tbf rate 2mbit burst 3kb latency 2000ms")
	there.Run("tc qdisc add dev far0 root tbf rate 2mbit burst 3kb latency 2000ms")
	there.Do(func() { serving(t, there4, 29542) })
	m := newExercising(t, `{}`)
	for _, direction := range []string{"transmit", "receive"} {
		began := time.Now()
		row := asked(t, m, fmt.Sprintf(`{"target": %q, "direction": %q, "seconds": 2}`, there4, direction))[0]
		t.Logf("%s: %.3f Mbit/s over %.2f s, rtt %.0f ms", direction, *row.ReceiverBytesPerSecond*8/1e6, *row.Seconds, *row.RTTSeconds*1e3)
		assert.InEpsilon(t, 2e6/8*1448/1514, *row.ReceiverBytesPerSecond, 0.05)
		assert.Less(t, *row.Seconds, 3.1)
		assert.Less(t, time.Since(began), 30*time.Second)
	}
}

// Monitors that share a turn test one after the other, and closing one ends its test.
func TestBandwidth_oneAtATimeInAProcess(t *testing.T) {
	_, there := nettest.Pair(t)
	there.Do(func() { serving(t, there4, 29542) })
	turn := &exercise.Turn{}
	var monitors []*Monitor
	for range 2 {
		m, err := New(DefaultConfig(), Options{Turn: turn})
		require.NoError(t, err)
		t.Cleanup(m.Close)
		monitors = append(monitors, m)
	}
	request := `{"target": "` + there4 + `", "seconds": 5}`
	p, err := monitors[0].Test([]byte(request))
	require.NoError(t, err)
	_, err = monitors[1].Test([]byte(request))
	require.ErrorIs(t, err, ErrBusyTest)
	var text bytes.Buffer
	answered, err := monitors[0].AwaitTest(&p, 50*time.Millisecond, &text)
	require.NoError(t, err)
	assert.False(t, answered)
	began := time.Now()
	monitors[0].Close()
	assert.Less(t, time.Since(began), time.Second)
	require.Eventually(t, monitors[0].exercises.Ended, 5*time.Second, time.Millisecond)
	answer, err := testBy(monitors[1], `{"target": "127.0.0.1:1"}`)
	require.NoError(t, err)
	assert.Contains(t, *answer.Tests[0].Error, "refuses")
	_, err = monitors[0].Test([]byte(request))
	require.ErrorIs(t, err, ErrClosed)
}

// The newest sixteen are in samples, and in the memory of the history once.
func TestBandwidth_inSamples(t *testing.T) {
	m := newExercising(t, `{"interval_seconds": 0.02}`)
	for i := range 20 {
		_, err := testBy(m, fmt.Sprintf(`{"target": "127.0.0.1:%d"}`, i+1))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(m.newest().BandwidthTests) == 16 }, 10*time.Second, time.Millisecond)
	rows := m.newest().BandwidthTests
	require.Eventually(t, func() bool { return m.newest().Sequence > 30 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, "127.0.0.1:5", rows[0].Target)
	assert.Equal(t, "127.0.0.1:20", rows[15].Target)
	assert.Same(t, &rows[0], &m.newest().BandwidthTests[0], "samples share them")
	assert.Contains(t, m.newest().Unavailable["bandwidth_tests.bytes"], "and 8 more")
}

func TestBandwidth_serverThatHasNoPort(t *testing.T) {
	first, at := serving(t, "127.0.0.1", 0)
	parsed, err := ParseConfig([]byte(`{"interval_seconds": 0.02}`))
	require.NoError(t, err)
	parsed.Bandwidth = netip.MustParseAddrPort(at)
	m, err := New(parsed, Options{})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	assert.Equal(t, "degraded: bandwidth_server: listen at "+at+": address already in use", m.newest().Self.Health)
	first.Close()
	require.Eventually(t, first.exercises.Ended, 5*time.Second, time.Millisecond)
	again, err := New(parsed, Options{})
	require.NoError(t, err)
	t.Cleanup(again.Close)
	assert.Equal(t, "ok", again.newest().Self.Health)
}
