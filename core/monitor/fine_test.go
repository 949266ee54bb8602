package monitor

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/link"
	"netmon/core/sample"
)

// askFinely asks for fine sampling and returns the answer.
func (x *machine) askFinely(request string) (answer sample.Fine) {
	x.t.Helper()
	var text bytes.Buffer
	require.NoError(x.t, x.m.Query([]byte(request), &text))
	require.NoError(x.t, json.Unmarshal(text.Bytes(), &answer))
	return answer
}

// finely lets a time pass and reads the counters as the loop does between two samples.
func (x *machine) finely(after time.Duration, receive, transmit uint64) {
	x.t.Helper()
	x.dev(row("eth0", receive, transmit))
	x.clock.Advance(after)
	x.m.readFinely()
}

func (x *machine) tickAfter(after time.Duration) *sample.Sample {
	x.t.Helper()
	x.clock.Advance(after)
	x.m.Tick()
	all := x.m.history.since(0)
	return all[len(all)-1]
}

// oneCard is a machine whose only interface is eth0 of 1 Gbit/s, which has counted 1000 bytes each way.
func oneCard(t *testing.T, config string) *machine {
	t.Helper()
	x := newMachine(t, config, dockerHost()[1])
	x.dev(row("eth0", 1000, 1000))
	x.tick()
	return x
}

const (
	milli      = time.Millisecond
	askForFine = `{"view": "fine", "seconds": 60, "interval_seconds": 0.05}`
)

func TestFine_peakOfAWindow(t *testing.T) {
	x := oneCard(t, `{"interval_seconds": 0.2}`)
	assert.Equal(t, sample.Fine{Seconds: 60, IntervalSeconds: 0.05}, x.askFinely(askForFine))
	first := x.tickAfter(200 * milli)
	assert.Nil(t, first.Totals.ReceivePeakBytesPerSecond, "the lease began after the window had")
	assert.Contains(t, first.Unavailable["totals.busy_ratio"], "asked for")

	x.finely(50*milli, 1000, 1000)         // nothing
	x.finely(50*milli, 6_001_000, 1000)    // 120 MB/s received
	x.finely(50*milli, 6_001_000, 301_000) // 6 MB/s sent
	s := x.tickAfter(50 * milli)           // nothing
	totals := s.Totals
	assert.InDelta(t, 0.05, *totals.FineIntervalSeconds, 1e-9)
	assert.InDelta(t, 120e6, *totals.ReceivePeakBytesPerSecond, 1)
	assert.InDelta(t, 6e6, *totals.TransmitPeakBytesPerSecond, 1)
	assert.InDelta(t, 0.85*120e6, *totals.ReceiveP95BytesPerSecond, 1, "of 0, 0, 0, 120 MB/s as numpy.quantile has it")
	assert.InDelta(t, 0.5, *totals.BusyRatio, 1e-9, "1.25 MB/s is a hundredth of 1 Gbit/s")
	assert.InDelta(t, 30e6, *totals.ReceiveBytesPerSecond, 1, "fine readings are not in the way of the window's own rate")
	assert.InDelta(t, 30e6, *totals.ReceiveBestBytesPerSecond, 1)

	x.dev(row("eth0", 6_001_000, 301_000))
	for range 3 {
		x.finely(50*milli, 6_001_000, 301_000)
	}
	s = x.tickAfter(50 * milli)
	assert.Zero(t, *s.Totals.ReceivePeakBytesPerSecond)
	assert.Zero(t, *s.Totals.BusyRatio)
	assert.InDelta(t, 30e6, *s.Totals.ReceiveBestBytesPerSecond, 1, "the best stays")
	assert.InDelta(t, 1.5e6, *s.Totals.TransmitBestBytesPerSecond, 1)
}

// A sample on demand has its own window: from a sample of the loop to now.
func TestFine_windowOfASampleOnDemand(t *testing.T) {
	x := oneCard(t, `{"interval_seconds": 0.2}`)
	x.askFinely(askForFine)
	x.tickAfter(200 * milli)
	for i := range uint64(3) {
		x.finely(50*milli, 1000+(i+1)*1_000_000, 1000)
	}
	x.dev(row("eth0", 11_001_000, 1000))
	x.clock.Advance(10 * milli)
	s := x.now()
	require.NotNil(t, s.Totals.ReceivePeakBytesPerSecond)
	assert.InDelta(t, 0.16, *s.WindowSeconds, 1e-9)
	assert.InDelta(t, 9e6/0.06, *s.Totals.ReceivePeakBytesPerSecond, 1, "the last 10 ms are no interval of their own")
	assert.InDelta(t, 0.16/3, *s.Totals.FineIntervalSeconds, 1e-9)

	// It is no reading that later windows are cut at.
	x.clock.Advance(40 * milli)
	x.m.Tick()
	all := x.m.history.since(0)
	newest := all[len(all)-1].Totals
	assert.InDelta(t, 8e6/0.05, *newest.ReceivePeakBytesPerSecond, 1)
	assert.InDelta(t, 0.05, *newest.FineIntervalSeconds, 1e-9)
}

func TestFine_whatIsNotCovered(t *testing.T) {
	for name, tt := range map[string]struct {
		during func(x *machine) // 0.2 s
		want   string
	}{
		"nobody asked": {func(x *machine) {
			x.askFinely(`{"view": "fine", "seconds": 0}`)
			x.clock.Advance(200 * milli)
		}, "not asked for"},
		"ended on the way": {func(x *machine) {
			x.finely(50*milli, 1000, 1000)
			x.askFinely(`{"view": "fine", "seconds": 0}`)
			x.clock.Advance(150 * milli)
		}, "a part of this window"},
		"the host was busy": {func(x *machine) {
			x.clock.Advance(100 * milli)
			x.finely(300*milli, 1000, 1000)
			x.clock.Advance(50 * milli)
		}, "readings were up to 0.40 s apart in this window"},
		"counters were reset": {func(x *machine) {
			x.finely(50*milli, 10, 10)
			x.clock.Advance(150 * milli)
		}, "counters of a counted interface were reset in this window"},
	} {
		t.Run(name, func(t *testing.T) {
			x := oneCard(t, `{"interval_seconds": 0.2}`)
			x.askFinely(askForFine)
			x.tickAfter(200 * milli)
			tt.during(x)
			s := x.tickAfter(0)
			for _, field := range fineFields() {
				assert.Contains(t, s.Unavailable["totals."+field], tt.want, field)
			}
			assert.Nil(t, s.Totals.ReceivePeakBytesPerSecond)
			assert.Nil(t, s.Totals.BusyRatio)
			assert.Nil(t, s.Totals.FineIntervalSeconds)
		})
	}
}

// Where the capacity is not known, busy is measured against the best rate of the loop.
func TestFine_busyWithoutACapacity(t *testing.T) {
	card := *dockerHost()[1]
	card.LinkSpeedBits, card.SpeedReason = 0, "the driver does not know the link speed"
	x := newMachine(t, `{"interval_seconds": 0.1}`, &card)
	x.dev(row("eth0", 0, 0))
	x.askFinely(askForFine)
	x.tickAfter(100 * milli)
	x.finely(50*milli, 0, 0)
	s := x.tickAfter(50 * milli)
	assert.Zero(t, *s.Totals.BusyRatio, "nothing was ever carried")
	x.finely(50*milli, 1_000_000, 0)
	s = x.tickAfter(50 * milli)
	assert.InDelta(t, 1e7, *s.Totals.ReceiveBestBytesPerSecond, 1)
	assert.InDelta(t, 0.5, *s.Totals.BusyRatio, 1e-9)
	x.finely(50*milli, 1_004_999, 0) // below 0.1 MB/s
	x.dev(row("eth0", 1_010_000, 0))
	s = x.tickAfter(50 * milli)
	assert.InDelta(t, 0.5, *s.Totals.BusyRatio, 1e-9)
}

func TestFine_leases(t *testing.T) {
	x := oneCard(t, `{}`)
	assert.Equal(t, sample.Fine{Seconds: 10, IntervalSeconds: 0.02}, x.askFinely(`{"view": "fine"}`))
	x.clock.Advance(4 * time.Second)
	assert.Equal(t, sample.Fine{Seconds: 6, IntervalSeconds: 0.02}, x.askFinely(`{"view": "fine", "seconds": 1, "interval_seconds": 0.05}`),
		"one who asks for less takes nothing from another")
	assert.Equal(t, sample.Fine{Seconds: 20, IntervalSeconds: 0.01}, x.askFinely(`{"view": "fine", "seconds": 20, "interval_seconds": 0.01}`))
	assert.Equal(t, sample.Fine{IntervalSeconds: 0.02}, x.askFinely(`{"view": "fine", "seconds": 0}`))
	held := func() bool {
		_, held := x.m.fine.held(x.clock.Monotonic())
		return held
	}
	assert.False(t, held())
	assert.Equal(t, sample.Fine{Seconds: 1, IntervalSeconds: 0.05}, x.askFinely(`{"view": "fine", "seconds": 1, "interval_seconds": 0.05}`))
	x.clock.Advance(time.Second)
	assert.False(t, held(), "nobody has to end it")

	for request, want := range map[string]string{
		`{"view": "fine", "seconds": 61}`:               `request key "seconds" is more than 60`,
		`{"view": "fine", "seconds": -1}`:               `request key "seconds" is -1; it must be from 0`,
		`{"view": "fine", "interval_seconds": 0.009}`:   `request key "interval_seconds" is 0.009; it must be from 0.01 to 0.05 seconds`,
		`{"view": "fine", "limit": 1}`:                  `request key "limit" does not belong to the view "fine"`,
		`{"view": "health", "interval_seconds": 0.01}`:  `request key "interval_seconds" does not belong to the view "health"`,
		`{"view": "history", "interval_seconds": 0.01}`: `request key "interval_seconds" does not belong to the view "history"`,
	} {
		assert.ErrorContains(t, x.m.Query([]byte(request), &bytes.Buffer{}), want, request)
	}
	x.start(`{"sources": ["tcp"]}`)
	assert.ErrorContains(t, x.m.Query([]byte(`{"view": "fine"}`), &bytes.Buffer{}), `"interfaces" are not in sources`)
}

// Links that change between two samples are not mixed up: counters are left alone until the links are read again.
func TestFine_linksThatChange(t *testing.T) {
	x := oneCard(t, `{"interval_seconds": 0.2}`)
	x.askFinely(askForFine)
	x.tickAfter(200 * milli)
	resets := x.m.events.counts[eventReset] // of the preparations
	other := *dockerHost()[1]
	other.Index = 9
	block := make(chan struct{})
	x.links.mu.Lock()
	x.links.block = block
	x.links.mu.Unlock()
	x.links.set(&other) // another card of this name
	x.finely(50*milli, 500, 500)
	close(block)
	s := x.tickAfter(150 * milli)
	assert.EqualValues(t, 9, *find(t, s, "eth0").Index)
	assert.Zero(t, *find(t, s, "eth0").ReceiveBytesTotal)
	assert.Zero(t, *s.Totals.ReceiveBytesPerSecond)
	assert.Equal(t, resets, x.m.events.counts[eventReset])
}

func TestFine_memoryIsGivenBack(t *testing.T) {
	x := oneCard(t, `{"interval_seconds": 3600}`)
	for range 1200 {
		x.askFinely(`{"view": "fine", "seconds": 60, "interval_seconds": 0.01}`)
		for range 100 {
			x.clock.Advance(10 * milli)
			x.m.readFinely()
		}
	}
	assert.LessOrEqual(t, len(x.m.fine.points), mostFinePoints)
	assert.Greater(t, len(x.m.fine.points), mostFinePoints/2)
	x.askFinely(`{"view": "fine", "seconds": 0}`)
	for range keptRecords + 1 {
		x.tickAfter(time.Hour)
	}
	assert.Nil(t, x.m.fine.points)
}

// The loop itself: readings between its samples, whose times they do not move, at intervals of both ends.
func TestFine_inTheLoop(t *testing.T) {
	for _, interval := range []string{"0.01", "0.2", "3600"} {
		config, err := ParseConfig([]byte(`{"interval_seconds": ` + interval + `, "sources": ["interfaces"]}`))
		require.NoError(t, err)
		config.Variables = map[string]string{}
		m, err := New(config, Options{Links: &fakeLinks{links: []*link.Link{
			{Index: 1, Name: "lo", Kind: link.Loopback, Up: true, SpeedReason: "loopback has no link speed"}}}})
		require.NoError(t, err)
		readings := func() uint64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.readings
		}
		before, began := readings(), time.Now()
		var answer bytes.Buffer
		require.NoError(t, m.Query([]byte(`{"view": "fine", "seconds": 60, "interval_seconds": 0.01}`), &answer))
		require.Eventually(t, func() bool { return readings() > before+20 }, 10*time.Second, 5*time.Millisecond, interval)
		assert.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond-10*time.Millisecond, interval)
		require.NoError(t, m.Query([]byte(`{"view": "fine", "seconds": 0}`), &answer))
		m.Close()
		assert.Positive(t, m.cpu.Load())
		if m.config.Interval == 200*time.Millisecond {
			samples := m.history.since(0)
			for i := range samples[1:] {
				// A sample that was due is not put off by readings: it comes at most as late as the host lets it.
				assert.GreaterOrEqual(t, samples[i+1].MonotonicSeconds, samples[0].MonotonicSeconds+0.2*float64(i+1)-1e-6)
			}
		}
	}
}
