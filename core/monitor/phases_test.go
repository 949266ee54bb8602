package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/phase"
	"netmon/core/sample"
)

func (x *machine) begin(name string) uint64 {
	x.t.Helper()
	number, err := x.m.BeginPhase([]byte(name))
	require.NoError(x.t, err)
	require.NotZero(x.t, number)
	return number
}

func (x *machine) end(number uint64) PhaseFigures {
	x.t.Helper()
	figures, err := x.m.EndPhase(number)
	require.NoError(x.t, err)
	return figures
}

// explained is a sample on demand whose every null has a reason.
func (x *machine) explained() *sample.Sample {
	x.t.Helper()
	var text bytes.Buffer
	require.NoError(x.t, x.m.Sample(&text))
	assert.Empty(x.t, unexplained(x.t, text.Bytes()))
	var s sample.Sample
	require.NoError(x.t, json.Unmarshal(text.Bytes(), &s))
	return &s
}

func (x *machine) phaseOf(name string) *sample.Phase {
	x.t.Helper()
	s := x.explained()
	for i := range s.Phases {
		if s.Phases[i].Name == name {
			return &s.Phases[i]
		}
	}
	require.Fail(x.t, "no phase "+name)
	return nil
}

// segments writes the counters of TCP.
func (x *machine) segments(sent, repeated uint64) {
	x.t.Helper()
	text, err := os.ReadFile(x.path("snmp"))
	require.NoError(x.t, err)
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		words := strings.Fields(line)
		if len(words) < 13 || words[0] != "Tcp:" || words[1] == "RtoAlgorithm" {
			continue
		}
		words[11], words[12] = fmt.Sprint(sent), fmt.Sprint(repeated) // OutSegs, RetransSegs
		lines[i] = strings.Join(words, " ")
	}
	require.NoError(x.t, os.WriteFile(x.path("snmp"), []byte(strings.Join(lines, "\n")), 0o600))
}

func TestPhases_exactBytes(t *testing.T) {
	x := oneCard(t, `{"sources": ["interfaces", "tcp"]}`)
	assert.Equal(t, []sample.Phase{}, x.explained().Phases, "measured, and there was none")
	x.segments(1000, 10)
	// Bytes before it, after the newest sample, are not its own.
	x.dev(row("eth0", 5000, 2000))
	number := x.begin("weight_sync")
	assert.Equal(t, "weight_sync", x.m.currentPhase())
	s := x.phaseOf("weight_sync")
	assert.EqualValues(t, 1, s.Running)
	assert.Zero(t, s.Count)
	assert.Nil(t, s.ReceiveBytesTotal, "unknown is not zero")

	x.clock.Advance(3 * time.Millisecond)
	x.dev(row("eth0", 1_005_000, 12_000))
	x.segments(1800, 18)
	f := x.end(number)
	assert.Empty(t, x.m.currentPhase())
	assert.Equal(t, 3*time.Millisecond, f.Duration)
	assert.Equal(t, []uint64{1_000_000, 10_000, 800, 8}, []uint64{f.Receive, f.Transmit, f.Sent, f.Retransmitted})
	assert.InDelta(t, 0.01, f.RetransmitRatio, 1e-9)
	assert.Equal(t, uint64(sample.UnknownCount), f.TCP, "peers are not in sources")
	assert.Equal(t, phase.LinkBound, f.Verdict, "1 MB in 3 ms is more than 1 Gbit/s")

	// A second one of the name; a sample of the loop comes meanwhile.
	x.dev(row("eth0", 2_005_000, 12_000))
	number = x.begin("weight_sync")
	x.dev(row("eth0", 2_105_000, 12_000))
	x.tick()
	x.dev(row("eth0", 2_205_000, 12_500))
	x.end(number)
	s = x.phaseOf("weight_sync")
	assert.EqualValues(t, 2, s.Count)
	assert.Zero(t, s.Running)
	assert.InDelta(t, 1.003, s.SecondsTotal, 1e-9)
	assert.EqualValues(t, 1_200_000, *s.ReceiveBytesTotal)
	assert.EqualValues(t, 10_500, *s.TransmitBytesTotal)
	assert.InDelta(t, 1, *s.LastSeconds, 1e-9)
	assert.EqualValues(t, 200_000, *s.LastReceiveBytes)
	assert.EqualValues(t, 500, *s.LastTransmitBytes)
	assert.InDelta(t, 8*1_200_000/1.003/1e9, *s.UtilizationRatio, 1e-9)

	totals := x.now().Totals
	assert.EqualValues(t, 2_204_000, *totals.ReceiveBytesTotal, "readings of phases count for all")
	var text bytes.Buffer
	x.tick()
	require.NoError(t, x.m.Query([]byte(`{"view": "stats", "metric": "phases.weight_sync.seconds_total"}`), &text))
	assert.Contains(t, text.String(), `"max":1.003`)
}

func TestPhases_nestedAndOverlapping(t *testing.T) {
	x := oneCard(t, `{}`)
	step := x.begin("step")
	x.dev(row("eth0", 2000, 1000))
	forward := x.begin("forward")
	assert.Equal(t, "forward", x.m.currentPhase())
	x.dev(row("eth0", 4000, 1000))
	again := x.begin("forward") // of another thread
	x.dev(row("eth0", 7000, 1000))
	x.clock.Advance(time.Second)
	assert.EqualValues(t, 5000, x.end(forward).Receive)
	assert.Equal(t, "forward", x.m.currentPhase(), "the other one's")
	assert.EqualValues(t, 3000, x.end(again).Receive)
	assert.Equal(t, "step", x.m.currentPhase())
	assert.EqualValues(t, 6000, x.end(step).Receive)
	assert.Empty(t, x.m.currentPhase())
	assert.EqualValues(t, 8000, *x.phaseOf("forward").ReceiveBytesTotal)

	_, err := x.m.EndPhase(step)
	require.ErrorIs(t, err, ErrNoPhase)
	_, err = x.m.EndPhase(12)
	require.ErrorIs(t, err, ErrNoPhase)
}

// What the loop reads between samples is the peak of the phase.
func TestPhases_peak(t *testing.T) {
	x := oneCard(t, `{}`)
	now := x.clock.Monotonic()
	_, finely := x.m.fine.next(now, now+time.Second)
	assert.False(t, finely)
	number := x.begin("weight_sync")
	_, finely = x.m.fine.next(now, now+time.Second)
	assert.True(t, finely, "it is sampled finely meanwhile")
	x.finely(20*milli, 1000, 1000)
	x.finely(20*milli, 2_401_000, 1000) // 120 MB/s of 125
	x.finely(20*milli, 4_801_000, 1000)
	x.finely(20*milli, 7_201_000, 1000)
	x.dev(row("eth0", 7_201_000, 1000))
	f := x.end(number)
	assert.InDelta(t, 120e6, f.Peak, 1)
	assert.InDelta(t, 0.96, f.PeakRatio, 1e-9)
	assert.InDelta(t, 0.75, f.Full, 1e-9)
	assert.InDelta(t, 0.75, f.Busy, 1e-9)
	assert.EqualValues(t, 7_200_000, f.Receive)
	assert.Equal(t, phase.LinkBound, f.Verdict)
	s := x.phaseOf("weight_sync")
	assert.InDelta(t, 120e6, *s.PeakBytesPerSecond, 1)
	assert.InDelta(t, 120e6, *s.PlateauBytesPerSecond, 12e6)
	assert.Equal(t, "link-bound", *s.Verdict)

	// The lease goes on for a moment, and somebody else's is not ended by it.
	held := func() bool {
		_, held := x.m.fine.held(x.clock.Monotonic())
		return held
	}
	assert.True(t, held())
	x.askFinely(`{"view": "fine", "seconds": 3}`)
	x.clock.Advance(2 * afterPhase)
	assert.True(t, held())
	x.clock.Advance(2 * time.Second)
	assert.False(t, held())
	x.begin("one that is never ended")
	x.clock.Advance(mostFinePhase)
	assert.False(t, held())
}

// heldUp loses its processor behind reading.
type heldUp struct {
	reader
	clock *clock.Fake
	late  time.Duration
}

func (h *heldUp) read(sections Section, retry bool, into *reading) {
	h.reader.read(sections, retry, into)
	h.clock.Advance(h.late)
}

// A sample that was held up between counters and clock makes no peak: the bytes of 20 ms would seem those of 10.
func TestPhases_sampleHeldUp(t *testing.T) {
	x := oneCard(t, `{}`)
	held := &heldUp{x.m.reader, x.clock, 0}
	x.m.reader = held
	number := x.begin("weight_sync")
	bytes := uint64(1000)
	move := func(after time.Duration) {
		bytes += uint64(100e6 * after.Seconds())
		x.clock.Advance(after)
		x.dev(row("eth0", bytes, 1000))
	}
	for range 10 {
		move(20 * milli)
		held.late = 10 * milli
		x.m.Tick()
		held.late = 0
		bytes += 1e6 // while it was held up
		move(10 * milli)
		x.m.readFinely()
	}
	f := x.end(number)
	assert.InDelta(t, 100e6, f.Peak, 1e3)
}

func TestPhases_reset(t *testing.T) {
	x := oneCard(t, `{}`)
	x.end(x.begin("p"))
	number := x.begin("p")
	x.dev(row("eth0", 10, 10))
	f := x.end(number)
	assert.Equal(t, uint64(sample.UnknownCount), f.Receive)
	s := x.explained()
	assert.Contains(t, s.Unavailable["phases.receive_bytes_total"], "not known of 1 of 2, which are not in it (counters of a counted interface were reset")
	assert.Zero(t, *s.Phases[0].ReceiveBytesTotal)
}

func TestPhases_sourcesMissing(t *testing.T) {
	for _, config := range []string{`{"sources": []}`, `{"sources": ["tcp"]}`, `{"sources": ["interfaces"]}`, `{"interfaces": ["nosuch"]}`} {
		x := newMachine(t, config)
		number := x.begin("p")
		x.explained()
		x.clock.Advance(time.Second)
		assert.Equal(t, time.Second, x.end(number).Duration, config)
		x.tick()
		x.explained()
	}
	x := newMachine(t, "{}")
	require.NoError(t, os.Remove(x.path("snmp")))
	require.NoError(t, os.Remove(x.path("dev")))
	x.start("{}")
	x.end(x.begin("p"))
	x.explained()
}

func TestPhases_names(t *testing.T) {
	x := oneCard(t, `{}`)
	for name, want := range map[string]string{
		"":                         "is empty",
		strings.Repeat("x", 65):    "longer than 64 bytes",
		strings.Repeat("x", 1<<20): "longer than 64 bytes",
		"a\x00b":                   "control character",
		"a\nb":                     "control character",
		"\xff":                     "not UTF-8",
	} {
		_, err := x.m.BeginPhase([]byte(name))
		var wrong *TextError
		require.ErrorAs(t, err, &wrong)
		require.ErrorContains(t, err, want)
	}
	health := x.m.healthReport()
	require.Len(t, health.Problems, 1, "told at once")
	assert.Contains(t, health.Problems[0], "phases: 6 not begun; the last one: phase key \"name\" ")
	x.tick()
	assert.Len(t, x.m.healthReport().Problems, 1, "and once")
	assert.Contains(t, x.now().Self.Health, "phases: 6 not begun")

	for i := range mostPhaseNames {
		x.end(x.begin(fmt.Sprintf("step.%d ü", i)))
	}
	_, err := x.m.BeginPhase([]byte("one more"))
	require.ErrorIs(t, err, ErrTooManyPhases)
	require.ErrorContains(t, err, `64 names are in use, which is the most; "one more" is not begun`)
	x.end(x.begin("step.3 ü"))
	assert.EqualValues(t, 2, x.phaseOf("step.3 ü").Count)
	assert.Len(t, x.now().Phases, mostPhaseNames)
	x.tick()
	metric, err := sample.FindMetric("phases.step.3 ü.count")
	require.NoError(t, err)
	all := x.m.history.since(0)
	value, ok := metric.Value(all[len(all)-1])
	assert.True(t, ok)
	assert.InDelta(t, 2, value, 0)
}

func TestPhases_underWay(t *testing.T) {
	x := oneCard(t, `{}`)
	var numbers []uint64
	for range mostPhasesUnderWay {
		numbers = append(numbers, x.begin("p"))
	}
	_, err := x.m.BeginPhase([]byte("p"))
	require.ErrorIs(t, err, ErrTooManyPhases)
	for _, number := range numbers {
		x.end(number)
	}
	assert.EqualValues(t, mostPhasesUnderWay, x.phaseOf("p").Count)
	assert.Len(t, x.m.phases.unused, mostPhasesUnderWay)
	x.end(x.begin("p"))
	assert.Len(t, x.m.phases.unused, mostPhasesUnderWay, "their room is used again")
}

// While a sample takes long, a phase has its time, and no bytes; nobody waits for more than 0.1 s.
func TestPhases_sampleThatTakesLong(t *testing.T) {
	x := oneCard(t, `{}`)
	x.m.mu.Lock()
	began := time.Now()
	number := x.begin("p")
	assert.Less(t, time.Since(began), 10*time.Second)
	x.m.mu.Unlock()
	x.clock.Advance(time.Second)
	f := x.end(number)
	assert.Equal(t, time.Second, f.Duration)
	assert.Equal(t, uint64(sample.UnknownCount), f.Receive)
	assert.Contains(t, x.explained().Unavailable["phases.receive_bytes_total"], "a sample took too long")
}

// By a clock that goes on, and not by the steps: they take longer than they are told.
func TestPhases_waitsNoLonger(t *testing.T) {
	x := oneCard(t, `{}`)
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	slow := &slowClock{Clock: x.clock}
	x.m.clock = slow
	assert.False(t, x.m.lockSampling(mostPhaseWait))
	assert.InDelta(t, mostPhaseWait, slow.passed.Load(), float64(2*milli))
}

// slowClock goes on by a millisecond whenever somebody looks.
type slowClock struct {
	clock.Clock
	passed atomic.Int64
}

func (s *slowClock) Monotonic() time.Duration { return time.Duration(s.passed.Add(int64(milli))) }

func TestPhases_closed(t *testing.T) {
	x := oneCard(t, `{}`)
	number := x.begin("p")
	x.m.Close()
	_, err := x.m.EndPhase(number)
	require.ErrorIs(t, err, ErrClosed)
	_, err = x.m.BeginPhase([]byte("p"))
	require.ErrorIs(t, err, ErrClosed)
}

func TestPhases_fromManyThreads(t *testing.T) {
	x := oneCard(t, `{}`)
	var all sync.WaitGroup
	for i := range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 200 {
				number, err := x.m.BeginPhase(fmt.Appendf(nil, "thread %d", i))
				assert.NoError(t, err)
				x.m.currentPhase()
				_, err = x.m.EndPhase(number)
				assert.NoError(t, err)
			}
		}()
	}
	for range 50 {
		x.m.Tick()
		x.m.readFinely()
		_ = x.m.Sample(&bytes.Buffer{})
		x.m.healthReport()
	}
	all.Wait()
	for i := range 4 {
		assert.EqualValues(t, 200, x.phaseOf(fmt.Sprintf("thread %d", i)).Count)
	}
}

func TestPhases_rdma(t *testing.T) {
	point := func(at time.Duration, bytes uint64) rdmaPoint {
		return rdmaPoint{at: at, ports: []portMoved{{moved: [2]uint64{bytes, 2 * bytes}, capacity: 50e9}}, epoch: 1}
	}
	x := oneCard(t, `{}`)
	track := &rdmaTrack{}
	put := func(p rdmaPoint) {
		track.points[track.count%mostTracked] = p
		track.count++
	}
	p := x.m.phases
	begin := func(name string) uint64 {
		number := x.begin(name)
		p.under[len(p.under)-1].rdma = nearReading{to: x.clock.Monotonic()}
		return number
	}
	use := func() { p.track, x.m.rdma = track, &rdmaPart{beside: &beside{}} }
	sampled := func() *sample.Phase {
		use()
		x.m.rdma.missing = ""
		p.mu.Lock()
		defer p.mu.Unlock()
		p.settle(x.clock.Monotonic())
		row := &sample.Phase{}
		account := p.names[len(p.names)-1].known()
		figures := p.figures(&account)
		row.Set(&figures.PhaseNumbers)
		return row
	}
	use()
	now := x.clock.Monotonic()
	put(point(now-900*milli, 0))
	number := begin("near")
	put(point(now+2*milli, 1000))
	x.clock.Advance(time.Second)
	put(point(now+900*milli, 6000))
	assert.Equal(t, uint64(sample.UnknownCount), x.end(number).RDMA, "the newest reading is 0.1 s old")
	assert.Nil(t, sampled().RDMABytesTotal)
	assert.Nil(t, sampled().Verdict, "ports may have moved much")
	put(point(now+1004*milli, 7000))
	require.NotNil(t, sampled().Verdict, "now they are known not to have")
	assert.Equal(t, "idle", *sampled().Verdict)
	assert.EqualValues(t, 3*6000, *sampled().RDMABytesTotal, "it is settled when ports have been read again")

	// A driver that does not answer.
	number = begin("far")
	x.clock.Advance(time.Second)
	x.end(number)
	x.clock.Advance(2 * mostSettleTime)
	assert.Nil(t, sampled().RDMABytesTotal)
	assert.Empty(t, p.settling)
	assert.Equal(t, notReadNear, p.names[1].account.RDMA.Why)

	// Long enough for the readings that there are.
	now = x.clock.Monotonic()
	put(point(now, 7000))
	number = begin("long")
	x.clock.Advance(10 * time.Second)
	put(point(now+9900*milli, 17_000))
	assert.EqualValues(t, 30_000, x.end(number).RDMA)

	number = begin("reset")
	put(point(x.clock.Monotonic(), 17_000))
	x.clock.Advance(time.Second)
	put(rdmaPoint{at: x.clock.Monotonic(), epoch: 2})
	x.end(number)
	assert.Contains(t, p.names[3].account.RDMA.Why, "had their counters reset")
}
