package udp

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe/stamp"
)

// serve runs a responder over loopback.
func serve(t *testing.T) (r *Responder, number int, served chan error) {
	t.Helper()
	r, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	require.NoError(t, err)
	number = r.socket.Number()
	served = make(chan error, 1)
	go func() { served <- r.Serve() }()
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.serving
	}, 10*time.Second, time.Millisecond)
	return r, number, served
}

func awaitEnd(t *testing.T, served chan error) error {
	t.Helper()
	select {
	case err := <-served:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("Serve did not return")
		return nil
	}
}

// What the responder says of its dwell: none of it when its clock was stepped meanwhile, or the kernel did not stamp the question.
func TestResponder_dwell(t *testing.T) {
	r, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	require.NoError(t, err)
	defer r.Close()
	self, err := r.socket.Local() // it sends its answers to itself
	require.NoError(t, err)
	fake := clock.NewFake(time.Hour, time.Unix(1_700_000_000, 0))
	r.clock = fake
	s := session{Responder: r, limits: newLimiter(), last: stamp.Now(fake)}
	dwell := func(received stamp.Time) time.Duration {
		s.answer(message{kind: question, nonce: 1, sequence: 2}, &stamp.Packet{From: self, Received: received, Destination: self.IP}, 0)
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(r.socket.Number()), Events: unix.POLLIN}}, 5000)
		require.NoError(t, err)
		packet, err := r.socket.Receive()
		require.NoError(t, err)
		m, ok := parse(packet.Data)
		require.True(t, ok)
		assert.Equal(t, message{kind: answer, nonce: 1, sequence: 2, dwell: m.dwell}, m)
		return m.dwell
	}
	arrived := func() stamp.Time { return stamp.Now(fake).Wall }
	at := arrived()
	fake.Advance(50 * time.Millisecond)
	assert.Equal(t, 50*time.Millisecond, dwell(at))

	at = arrived()
	fake.Advance(time.Millisecond)
	fake.StepWall(time.Hour)
	assert.Negative(t, dwell(at), "stepped")
	at = arrived()
	fake.Advance(time.Second)
	assert.Equal(t, time.Second, dwell(at), "and no more")
	fake.StepWall(-time.Hour)
	assert.Negative(t, dwell(at), "stepped back")
	assert.Negative(t, dwell(0), "not stamped")
}

func TestResponder_closeWakesServe(t *testing.T) {
	r, _, served := serve(t)
	time.Sleep(20 * time.Millisecond) // it waits for questions by now, most likely
	began := time.Now()
	r.Close()
	assert.NoError(t, awaitEnd(t, served))
	assert.Less(t, time.Since(began), lookAgain/2)
	assert.Equal(t, -1, r.socket.Number())
	assert.NoError(t, r.Serve(), "once more")
}

// The host closes the socket and opens its own file under the number: nothing is read from it or written to it.
func TestResponder_descriptorTakenOverByTheHost(t *testing.T) {
	for _, closes := range []bool{false, true} {
		r, number, served := serve(t)
		path := filepath.Join(t.TempDir(), "theirs")
		require.NoError(t, os.WriteFile(path, []byte("the host's data"), 0o600))
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Dup3(fd, number, unix.O_CLOEXEC))
		require.NoError(t, unix.Close(fd))
		want := kernelfs.ErrForeign
		if closes {
			r.Close()
			want = nil
		}
		assert.ErrorIs(t, awaitEnd(t, served), want)
		r.Close()
		position, err := unix.Seek(number, 0, unix.SEEK_CUR)
		assert.NoError(t, err, "the host's file stays open")
		assert.Zero(t, position)
		require.NoError(t, unix.Close(number))
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "the host's data", string(text))
	}
}
