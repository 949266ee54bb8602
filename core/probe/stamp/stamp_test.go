package stamp

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"netmon/core/clock"
	"netmon/core/probe"
)

const us = time.Microsecond

// at is a moment d after the start of the test's time, on a clock that was set forward by step.
func at(d, step time.Duration) Moment {
	const start = Time(1_700_000_000_000_000_000)
	return Moment{Monotonic: time.Hour + d, Wall: start + Time(d) + Time(step)}
}

func TestRoundTrip(t *testing.T) {
	before := at(0, 0)
	stamped := func(d time.Duration) Time { return at(d, 0).Wall }
	tests := map[string]struct {
		sent, received Time
		after          Moment
		rtt            time.Duration
		err            error
	}{
		"stamps on both ends":            {stamped(10 * us), stamped(40 * us), at(28*time.Millisecond, 0), 30 * us, nil},
		"no stamp of sending":            {0, stamped(40 * us), at(28*time.Millisecond, 0), 40 * us, nil},
		"no stamp of receiving":          {stamped(10 * us), 0, at(90*us, 0), 80 * us, nil},
		"no stamp at all":                {0, 0, at(90*us, 0), 90 * us, nil},
		"waited for ARP":                 {stamped(time.Second), stamped(time.Second + 30*us), at(time.Second+50*us, 0), 30 * us, nil},
		"clocks read with some jitter":   {stamped(10 * us), stamped(40 * us), at(50*us, 3*us), 30 * us, nil},
		"stepped forward":                {stamped(10 * us), stamped(40*us) + Time(time.Second), at(50*us, time.Second), 0, ErrStepped},
		"stepped back":                   {stamped(10 * us), stamped(40*us) - Time(time.Second), at(50*us, -time.Second), 0, ErrStepped},
		"stepped a little":               {stamped(10 * us), stamped(90 * us), at(50*us, 50*us), 0, ErrStepped},
		"stepped after receiving":        {stamped(10 * us), stamped(40 * us), at(50*us, time.Minute), 0, ErrStepped},
		"received before it was sent":    {stamped(40 * us), stamped(10 * us), at(50*us, 0), 0, ErrImplausible},
		"sent before it was handed over": {stamped(-50 * us), stamped(10 * us), at(50*us, 0), 0, ErrImplausible},
		"received after it was read":     {stamped(10 * us), stamped(time.Second), at(50*us, 0), 0, ErrImplausible},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rtt, err := RoundTrip(before, tt.sent, tt.received, tt.after)
			assert.Equal(t, tt.rtt, rtt)
			if tt.err == nil {
				assert.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, tt.err)
			assert.ErrorIs(t, err, probe.ErrVoid)
		})
	}
}

// A round trip begins where ping's does, unless the process lost its processor on the way into the kernel.
func TestCallStart(t *testing.T) {
	before := at(0, 0)
	assert.Equal(t, before.Wall, CallStart(before, before.Wall+Time(20*us)))
	assert.Equal(t, before.Wall+Time(3000*us), CallStart(before, before.Wall+Time(3000*us)))
	assert.Equal(t, before.Wall, CallStart(before, 0), "the kernel gave no stamp")
}

func TestRoundTrip_clocksReadFarApart(t *testing.T) {
	before, after := at(0, 0), at(50*us, 0)
	after.Wall += Time(300 * us)
	after.Blur = 400 * us // this process lost the processor between the two
	rtt, err := RoundTrip(before, before.Wall+Time(10*us), before.Wall+Time(40*us), after)
	assert.NoError(t, err)
	assert.Equal(t, 30*us, rtt)
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(int64(10_000), int64(40_000), int64(50_000), int64(0))
	f.Add(int64(-1), int64(1<<62), int64(1), int64(1<<62))
	f.Fuzz(func(t *testing.T, sent, received, elapsed, step int64) {
		before, after := at(0, 0), at(time.Duration(elapsed), time.Duration(step))
		rtt, err := RoundTrip(before, before.Wall+Time(sent), before.Wall+Time(received), after)
		if err == nil {
			assert.GreaterOrEqual(t, rtt, time.Duration(0))
			assert.LessOrEqual(t, rtt, time.Duration(elapsed)+20*us)
		} else {
			assert.Zero(t, rtt)
		}
	})
}

func TestNow_readsBothClocks(t *testing.T) {
	fake := clock.NewFake(time.Minute, time.Unix(1000, 7))
	assert.Equal(t, Moment{Monotonic: time.Minute, Wall: 1_000_000_000_007}, Now(fake))
	from := Now(fake)
	fake.Advance(time.Second)
	assert.False(t, Stepped(from, Now(fake)))
	fake.StepWall(time.Millisecond)
	assert.True(t, Stepped(from, Now(fake)))
	system := clock.System()
	assert.False(t, Stepped(Now(system), Now(system)))
}

func TestUnreachable_saysWhatAndWho(t *testing.T) {
	router := netip.MustParseAddr("10.0.0.1")
	tests := []struct {
		u    Unreachable
		want string
	}{
		{Unreachable{Errno: syscall.EHOSTUNREACH, Type: 3, Code: 1, By: router}, "host unreachable, said by 10.0.0.1"},
		{Unreachable{Errno: syscall.ENETUNREACH, Type: 3, Code: 0, By: router}, "network unreachable, said by 10.0.0.1"},
		{Unreachable{Errno: syscall.ECONNREFUSED, Type: 3, Code: 3, By: router}, "port unreachable, said by 10.0.0.1"},
		{Unreachable{Errno: syscall.EHOSTUNREACH, Type: 3, Code: 13, By: router}, "administratively prohibited, said by 10.0.0.1"},
		{Unreachable{Errno: syscall.EHOSTUNREACH, Type: 3, Code: 5}, "destination unreachable (code 5)"},
		{Unreachable{Errno: syscall.EHOSTUNREACH, Type: 11, By: router}, "time to live exceeded, said by 10.0.0.1"},
		{Unreachable{Errno: syscall.EHOSTUNREACH, Type: 3, Code: 1, By: router, Here: true}, "host unreachable: no answer to ARP"},
		{Unreachable{Errno: syscall.EHOSTUNREACH, IPv6: true, Type: 1, Code: 3, Here: true}, "host unreachable: no answer to neighbour discovery"},
		{Unreachable{Errno: syscall.EACCES, IPv6: true, Type: 1, Code: 1}, "administratively prohibited"},
		{Unreachable{Errno: syscall.EHOSTUNREACH, IPv6: true, Type: 3, By: netip.MustParseAddr("fd00::1")}, "time to live exceeded, said by fd00::1"},
		{Unreachable{Errno: syscall.EPROTO, IPv6: true, Type: 200}, "protocol error"},
		{Unreachable{Errno: syscall.EPROTO, Type: 200}, "protocol error"},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, tt.u.Error())
		assert.ErrorIs(t, error(&tt.u), tt.u.Errno)
	}
}

func TestFlights(t *testing.T) {
	var f Flights
	f.Forget(1)
	f.Remove(1)
	target := Address{IP: netip.MustParseAddr("10.0.0.1")}
	for i := range uint64(4) {
		f.Add(i, Flight{Token: 100 + i, Socket: int(i % 2), To: target, Key: Key{number: uint32(i), known: i != 3}})
	}
	f.Stamp(0, Key{number: 2, known: true}, 7)
	f.Stamp(1, Key{number: 3, known: true}, 8) // whose key was not known
	f.Stamp(1, Key{number: 2, known: true}, 9) // of another socket
	second, _ := f.Get(2)
	assert.Equal(t, Time(7), second.Sent)
	for _, i := range []uint64{0, 1, 3} {
		other, found := f.Get(i)
		assert.True(t, found)
		assert.Zero(t, other.Sent)
	}
	oldest, found := f.Oldest(1, target)
	assert.True(t, found)
	assert.Equal(t, uint64(1), oldest)
	_, found = f.Oldest(1, Address{})
	assert.False(t, found)

	f.Forget(101)
	assert.Equal(t, 3, f.Len())
	_, found = f.Get(1)
	assert.False(t, found)
	f.Remove(0)
	var dropped []uint64
	f.Drop(1, func(token uint64) { dropped = append(dropped, token) })
	assert.Equal(t, []uint64{103}, dropped)
	assert.Equal(t, 1, f.Len())
	assert.Len(t, f.sequences, 1)
}
