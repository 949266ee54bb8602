package monitor

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
	"unsafe"

	"netmon/core/exercise"
	"netmon/core/job"
	"netmon/core/sample"
	"netmon/core/tool"
	"netmon/core/tool/throughput"
	"netmon/core/units"
)

// ErrBusyTest means that a bandwidth test of this process is under way.
var ErrBusyTest = errors.New("another bandwidth test of this process is under way, and one runs at a time; wait for it or cancel it")

// exercises is the part that runs bandwidth tests. Nothing runs before somebody asks.
type exercises struct {
	*exercise.Engine
	of      *[]exercise.Test // what rows and lacking were made of
	rows    []sample.BandwidthTest
	lacking []missing
	counted bool // the rows' memory is counted in the history
}

func (m *Monitor) newExercises() *exercises {
	turn := m.options.Turn
	if turn == nil {
		turn = &exercise.Turn{}
	}
	x := &exercises{Engine: exercise.New(exercise.Options{
		Clock: m.clock, Turn: turn, Spawn: m.options.Spawn, Resolve: m.resolve, Variable: job.Over(m.config.Variables),
		Inside: func(f func()) error {
			return m.engine.Inside(func() int {
				f()
				return 0
			})
		},
	})}
	if m.config.Bandwidth.IsValid() {
		x.Serve(m.config.Bandwidth)
	}
	return x
}

func (x *exercises) remember(uint64)    {}
func (x *exercises) problems() []string { return x.Problems() }
func (x *exercises) close()             { x.Close() }
func (x *exercises) ended() bool        { return x.Ended() }

func (x *exercises) fill(d *document, _ *occasion) (bytes int) {
	if tests := x.Tests(); x.of != tests {
		x.of, x.rows, x.lacking, x.counted = tests, rowsOf(*tests), testsLack(*tests), false
	}
	d.BandwidthTests = x.rows
	d.lacking = append(d.lacking, x.lacking...)
	if d.passing || x.counted {
		return 0
	}
	x.counted = true
	for i := range x.rows {
		bytes += testBytes(&x.rows[i])
	}
	return bytes
}

// testBytes is the memory of a row with what it points to.
func testBytes(row *sample.BandwidthTest) int {
	bytes := int(unsafe.Sizeof(*row)) + 8*8 + len(row.Target)
	if row.Error != nil {
		bytes += len(*row.Error)
	}
	return bytes
}

func rowsOf(tests []exercise.Test) []sample.BandwidthTest {
	rows := make([]sample.BandwidthTest, len(tests))
	for i := range tests {
		t := &tests[i]
		rows[i] = sample.BandwidthTest{
			Tool: string(t.Tool), Target: t.Target, Direction: string(t.Direction), TimestampSeconds: tool.Known(wallSeconds(t.Began)),
			Seconds: t.Seconds, Bytes: t.Bytes, SenderBytesPerSecond: t.Sender, ReceiverBytesPerSecond: t.Receiver,
			SegmentsRetransmitted: t.Resent, RTTSeconds: t.RTT,
		}
		if t.Parallel > 0 {
			rows[i].Parallel = tool.Known(int64(t.Parallel))
		}
		if t.Err != nil {
			rows[i].Error = tool.Known(t.Err.Error())
		}
	}
	return rows
}

// testsLack says why fields of the rows are null, naming the tests.
func testsLack(tests []exercise.Test) (lacking []missing) {
	fields := make(map[string]*named)
	for i, row := range rowsOf(tests) {
		name := fmt.Sprintf("%s %s %s", row.Tool, row.Target, row.Direction)
		note := func(field string, isNil bool) {
			if !isNil {
				return
			}
			reason := or(tests[i].Lacking[field], "not told by the tool")
			if row.Error != nil {
				reason = *row.Error
			}
			if fields[field] == nil {
				fields[field] = &named{}
			}
			fields[field].add(reason, name)
		}
		note("parallel", row.Parallel == nil)
		note("seconds", row.Seconds == nil)
		note("bytes", row.Bytes == nil)
		note("sender_bytes_per_second", row.SenderBytesPerSecond == nil)
		note("receiver_bytes_per_second", row.ReceiverBytesPerSecond == nil)
		note("segments_retransmitted", row.SegmentsRetransmitted == nil)
		note("rtt_seconds", row.RTTSeconds == nil)
	}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		lacking = append(lacking, missing{"bandwidth_tests." + field, fields[field].String()})
	}
	return lacking
}

// testRequest is what the caller of netmon_bandwidth asks for.
type testRequest struct {
	exercise.Request
	requestWait
}

// Bounds and defaults of a request.
const (
	defaultDuration    = 2 * time.Second
	leastTestTimeout   = time.Second
	mostTestTimeout    = 2 * time.Minute
	beyondTheDirection = 10 * time.Second // of the timeout: to connect, to agree, to drain
	defaultSpeedtest   = 90 * time.Second
	defaultIPerf3Port  = 5201
	mostProgram        = 4096 // bytes of a path
)

func parseTestRequest(text []byte) (q testRequest, err error) {
	d := decoder{what: "request", example: `{"target": "10.0.0.2"}`}
	q.Tool, q.Duration, q.Bytes, q.Parallel = exercise.Netmon, defaultDuration, throughput.MostBytes, 1
	direction := ""
	given, err := q.read(&d, text, map[string]func(string, []byte) error{
		"tool": func(key string, value []byte) error {
			word, err := d.string(key, value)
			q.Tool = exercise.Tool(word)
			if err == nil && !slices.Contains([]exercise.Tool{exercise.Netmon, exercise.IPerf3, exercise.Speedtest}, q.Tool) {
				err = d.fail(key, "is %q; it must be \"netmon\", \"iperf3\" or \"speedtest-cli\"", shorten(word))
			}
			return err
		},
		"target": func(key string, value []byte) (err error) {
			q.Target, err = d.string(key, value)
			return err
		},
		"direction": func(key string, value []byte) (err error) {
			direction, err = d.string(key, value)
			if err == nil && !slices.Contains([]string{"transmit", "receive", "both"}, direction) {
				err = d.fail(key, "is %q; it must be \"transmit\", \"receive\" (both seen from here) or \"both\"", shorten(direction))
			}
			return err
		},
		"seconds": func(key string, value []byte) (err error) {
			q.Duration, err = d.duration(key, value, throughput.LeastDuration, throughput.MostDuration)
			return err
		},
		"bytes": func(key string, value []byte) error {
			number, err := d.integer(key, value, 1, throughput.MostBytes)
			if err == nil {
				q.Bytes = uint64(*number)
			}
			return err
		},
		"parallel": func(key string, value []byte) error {
			number, err := d.integer(key, value, 1, throughput.MostConnections)
			if err == nil {
				q.Parallel = int(*number)
			}
			return err
		},
		"program": func(key string, value []byte) (err error) {
			q.Program, err = d.string(key, value)
			if err == nil && (q.Program == "" || len(q.Program) > mostProgram || slices.Contains([]byte(q.Program), 0)) {
				err = d.fail(key, "is %q; it must be the path of the tool's program, or its name on PATH", shorten(q.Program))
			}
			return err
		},
		"timeout_seconds": func(key string, value []byte) (err error) {
			q.Timeout, err = d.duration(key, value, leastTestTimeout, mostTestTimeout)
			return err
		},
	})
	if err == nil && q.id == 0 {
		err = q.complete(&d, given, direction)
	}
	if err == nil && !given["wait_seconds"] {
		q.wait = mostTestTimeout + beyondTheDirection
	}
	return q, err
}

// complete makes a request for a new test whole.
func (q *testRequest) complete(d *decoder, given map[string]bool, direction string) error {
	switch direction {
	case "receive":
		q.Directions = []tool.Direction{tool.Receive}
	case "both":
		q.Directions = []tool.Direction{tool.Transmit, tool.Receive}
	case "transmit":
		q.Directions = []tool.Direction{tool.Transmit}
	default:
		q.Directions = []tool.Direction{tool.Transmit}
		if q.Tool == exercise.Speedtest {
			q.Directions = []tool.Direction{tool.Receive, tool.Transmit}
		}
	}
	if q.Tool == exercise.Netmon && given["program"] {
		return d.fail("program", "does not belong to netmon's own test, which needs none; leave it out, or name the \"tool\"")
	}
	if q.Tool != exercise.Netmon && given["bytes"] {
		return d.fail("bytes", "belongs to netmon's own test only; %s is bounded by its time", q.Tool)
	}
	if q.Tool == exercise.IPerf3 && q.Duration%time.Second != 0 {
		return d.fail("seconds", "is %v; iperf3 takes whole seconds", units.Seconds(q.Duration))
	}
	if q.Tool == exercise.Speedtest {
		return q.completeSpeedtest(d, given)
	}
	if !given["target"] {
		return d.fail("target", "is missing; say whom to measure with, as {\"target\": \"10.0.0.2\"}, or which test to wait for, as {\"id\": 7}")
	}
	target, wrong := peerTarget(q.Target)
	if wrong != "" {
		return d.fail("target", "is wrong: %s", wrong)
	}
	q.Host, q.Address, q.Port = target.Host, target.Address, target.Port
	if q.Port == 0 {
		q.Port = throughput.DefaultPort
		if q.Tool == exercise.IPerf3 {
			q.Port = defaultIPerf3Port
		}
	}
	if !given["timeout_seconds"] {
		q.Timeout = time.Duration(len(q.Directions))*q.Duration + beyondTheDirection
	}
	return nil
}

// completeSpeedtest does so for a tool that chooses whom it measures with, how long, and by how many connections.
func (q *testRequest) completeSpeedtest(d *decoder, given map[string]bool) error {
	for _, key := range []string{"seconds", "parallel"} {
		if given[key] {
			return d.fail(key, "does not belong to speedtest-cli, which chooses it itself")
		}
	}
	for _, digit := range q.Target {
		if digit < '0' || digit > '9' || len(q.Target) > 9 {
			return d.fail("target", "is %q; speedtest-cli chooses its server, or takes the number of one of its list, such as \"1234\"",
				shorten(q.Target))
		}
	}
	q.Parallel, q.Duration = 0, 0
	if !given["timeout_seconds"] {
		q.Timeout = defaultSpeedtest
	}
	return nil
}

// Test begins a bandwidth test, or goes on with one. AwaitTest waits for it.
//
// Errors: *TextError for a request that is not understood, ErrClosed, ErrBusyTest.
func (m *Monitor) Test(request []byte) (Pending, error) {
	q, err := parseTestRequest(request)
	if err != nil {
		return Pending{}, err
	}
	if m.closing.Load() {
		return Pending{}, ErrClosed
	}
	p := q.pending()
	if p.ID == 0 {
		if p.ID, err = m.exercises.Start(q.Request); err != nil {
			return p, testError(err, p.ID)
		}
	}
	return p, nil
}

// AwaitTest waits, at most so long, for a test to end or the request's time to be over. Then it writes the answer to w, as JSON.
//
// Errors: *TextError for an id that does not hold, ErrClosed, and what w returns.
func (m *Monitor) AwaitTest(p *Pending, most time.Duration, w io.Writer) (answered bool, err error) {
	if m.closing.Load() {
		return false, ErrClosed
	}
	var answer *exercise.Answer
	if p.cancel {
		answer, err = m.exercises.Cancel(p.ID)
	} else {
		answer, err = m.exercises.Wait(p.ID, p.slice(most))
	}
	switch {
	case err != nil:
		return false, testError(err, p.ID)
	case !answer.Done && p.Left > 0:
		return false, nil
	}
	document := sample.BandwidthAnswer{ID: answer.ID, Done: answer.Done, Tests: rowsOf(answer.Tests)}
	return true, document.WriteJSON(w)
}

func testError(err error, id uint64) error {
	switch {
	case errors.Is(err, exercise.ErrClosed):
		return ErrClosed
	case errors.Is(err, exercise.ErrBusy):
		return ErrBusyTest
	case errors.Is(err, exercise.ErrUnknown):
		return &TextError{What: "request", Key: "id", Text: fmt.Sprintf(
			"is %d, which is no test that is unfinished or not fetched; start one with {\"target\": \"10.0.0.2\"}", id)}
	default:
		return err
	}
}
