package tcpinfo

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
	"netmon/core/nettest"
	"netmon/core/probe"
)

func openOwn(t testing.TB) *Own {
	t.Helper()
	o, err := OpenOwn(kernelfs.System())
	require.NoError(t, err)
	t.Cleanup(o.Close)
	return o
}

// readAll makes a whole reading.
func readAll(t testing.TB, o *Own) (sockets []*Socket) {
	t.Helper()
	o.Begin()
	for {
		done, err := o.Next(64, func(s *Socket) { sockets = append(sockets, s) })
		require.NoError(t, err)
		if done {
			return sockets
		}
	}
}

// listener listens in the namespace of the calling thread.
func listener(t testing.TB, at string) (fd int, address netip.AddrPort) {
	t.Helper()
	want := netip.MustParseAddrPort(at)
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(want.Port()), Addr: want.Addr().As16()})
	if want.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(want.Port()), Addr: want.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, to))
	require.NoError(t, unix.Listen(fd, 4096))
	bound, err := unix.Getsockname(fd)
	require.NoError(t, err)
	return fd, netip.AddrPortFrom(want.Addr(), portOf(bound))
}

func portOf(a unix.Sockaddr) uint16 {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	return 0
}

func dial(t testing.TB, to netip.AddrPort) (fd int) {
	t.Helper()
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, address = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Connect(fd, address))
	return fd
}

// connect makes a connection over loopback, in the namespace of the calling thread.
func connect(t testing.TB, at string) (client, server int) {
	t.Helper()
	listening, address := listener(t, at)
	client = dial(t, address)
	server, _, err := unix.Accept4(listening, unix.SOCK_CLOEXEC)
	require.NoError(t, err)
	require.NoError(t, unix.Close(listening))
	return client, server
}

func closeAll(t testing.TB, fds ...int) {
	for _, fd := range fds {
		assert.NoError(t, unix.Close(fd))
	}
}

func send(t testing.TB, from, to, bytes int) {
	t.Helper()
	text := make([]byte, bytes)
	for sent := 0; sent < bytes; {
		n, err := unix.Write(from, text[:min(bytes-sent, 16<<10)])
		require.NoError(t, err)
		sent += n
		for got := 0; got < n; {
			m, err := unix.Read(to, text)
			require.NoError(t, err)
			got += m
		}
	}
}

// find is the socket of a descriptor, nil for none.
func find(t testing.TB, sockets []*Socket, fd int) *Socket {
	var cookie uint64
	require.Zero(t, option64(fd, unix.SO_COOKIE, &cookie))
	for _, s := range sockets {
		if s.Cookie == cookie {
			return s
		}
	}
	return nil
}

func TestOwn_addressesAndBytes(t *testing.T) {
	nettest.Enter(t)
	for at, remote := range map[string]string{"127.0.0.1:0": "127.0.0.1", "[::1]:0": "::1", "[::ffff:127.0.0.1]:0": "127.0.0.1"} {
		o := openOwn(t)
		client, server := connect(t, at)
		send(t, client, server, 100_000)
		send(t, server, client, 77)
		sockets := readAll(t, o)
		require.Len(t, sockets, 2, at)
		s := find(t, sockets, client)
		assert.Equal(t, remote, s.Remote.Addr().String())
		assert.Equal(t, remote, s.Local.Addr().String())
		assert.Equal(t, s.Remote, find(t, sockets, server).Local)
		assert.Equal(t, Established, s.Info.State)
		assert.True(t, s.Info.HasSent())
		assert.Equal(t, uint64(100_000), s.Info.BytesSent-s.Info.BytesRetransmitted)
		assert.Equal(t, uint64(77), s.Info.BytesReceived)
		assert.NotZero(t, s.Info.RTT)
		closeAll(t, client, server)
		assert.Empty(t, readAll(t, o))
		assert.Empty(t, o.byCookie)
		assert.Empty(t, o.live)
	}
}

// Descriptors that are no connection: files, pipes, datagrams, listeners, and a socket that is not connected yet, or not any more.
func TestOwn_whatIsNoConnection(t *testing.T) {
	nettest.Enter(t)
	o := openOwn(t)
	listening, address := listener(t, "127.0.0.1:0")
	idle, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	datagram, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Connect(datagram, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}))
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	assert.Empty(t, readAll(t, o))
	to := &unix.SockaddrInet4{Port: int(address.Port()), Addr: [4]byte{127, 0, 0, 1}}
	require.NoError(t, unix.Connect(idle, to))
	sockets := readAll(t, o)
	require.Len(t, sockets, 1, "it is found once it is connected")
	server, _, err := unix.Accept(listening)
	require.NoError(t, err)
	send(t, idle, server, 500)
	// The same socket, disconnected and connected to somebody else.
	require.NoError(t, disconnect(idle))
	sockets = readAll(t, o)
	require.NotNil(t, find(t, sockets, idle))
	assert.Equal(t, Close, find(t, sockets, idle).Info.State, "told once more")
	assert.Nil(t, find(t, readAll(t, o), idle))
	other, elsewhere := listener(t, "127.0.0.2:0")
	require.NoError(t, unix.Connect(idle, &unix.SockaddrInet4{Port: int(elsewhere.Port()), Addr: [4]byte{127, 0, 0, 2}}))
	s := find(t, readAll(t, o), idle)
	require.NotNil(t, s)
	assert.Equal(t, elsewhere, s.Remote)
	assert.Zero(t, s.Info.BytesSent)
	// And again, without a reading in between.
	require.NoError(t, disconnect(idle))
	require.NoError(t, unix.Connect(idle, to))
	s = find(t, readAll(t, o), idle)
	require.NotNil(t, s)
	assert.Equal(t, address, s.Remote)
	closeAll(t, listening, idle, datagram, pair[0], pair[1], server, other)
}

func disconnect(fd int) error {
	var unspecified [16]byte
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspecified)), 16)
	if errno != 0 {
		return errno
	}
	return nil
}

func TestOwn_duplicatesCountOnce(t *testing.T) {
	nettest.Enter(t)
	o := openOwn(t)
	client, server := connect(t, "127.0.0.1:0")
	again, err := unix.FcntlInt(uintptr(client), unix.F_DUPFD_CLOEXEC, 700)
	require.NoError(t, err)
	first := readAll(t, o)
	require.Len(t, first, 2)
	require.Len(t, readAll(t, o), 2)
	known := find(t, first, client)
	known.Place = 7
	closeAll(t, client) // the other descriptor is left
	sockets := readAll(t, o)
	require.Len(t, sockets, 2)
	assert.Same(t, known, find(t, sockets, again))
	assert.Equal(t, 7, find(t, sockets, again).Place)
	closeAll(t, again, server)
}

// A descriptor's number comes to mean a file, another connection, a socket of another kind.
func TestOwn_numbersAreReused(t *testing.T) {
	nettest.Enter(t)
	o := openOwn(t)
	client, server := connect(t, "127.0.0.1:0")
	send(t, client, server, 12345)
	old := find(t, readAll(t, o), client)
	require.NotNil(t, old)

	file, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(file, client, unix.O_CLOEXEC))
	for _, s := range readAll(t, o) {
		assert.NotEqual(t, old.Cookie, s.Cookie, "a file is no socket")
	}
	newClient, newServer := connect(t, "127.0.0.1:0")
	require.NoError(t, unix.Dup3(newClient, client, unix.O_CLOEXEC))
	s := find(t, readAll(t, o), client)
	require.NotNil(t, s)
	assert.NotEqual(t, old.Cookie, s.Cookie)
	assert.NotEqual(t, old.Remote.Port(), s.Remote.Port())
	assert.Zero(t, s.Info.BytesSent)
	datagram, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(datagram, client, unix.O_CLOEXEC))
	assert.Nil(t, find(t, readAll(t, o), client))
	closeAll(t, client, server, file, newClient, newServer, datagram)
}

// Descriptors that the host opens while they are read do not hide a connection that is new.
func TestOwn_openedWhileReading(t *testing.T) {
	nettest.Enter(t)
	if openDescriptors() == 0 {
		t.Skip("this kernel does not tell how many descriptors are open")
	}
	o := openOwn(t)
	require.Empty(t, readAll(t, o))
	client, server := connect(t, "127.0.0.1:0")
	var fleeting []int
	above := func(fd int) int { // a descriptor for the same beyond all others
		again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, o.highest+1)
		require.NoError(t, err)
		return again
	}
	for range moreDescriptors / 2 {
		fleeting = append(fleeting, above(0))
	}
	highClient, highServer := above(client), above(server)
	closeAll(t, client, server)
	o.count = func() int { return openDescriptors() - len(fleeting) } // they are opened the moment after
	require.Len(t, readAll(t, o), 2)
	closeAll(t, append(fleeting, highClient, highServer)...)
}

func TestOwn_otherNamespacesAndNetmonsOwn(t *testing.T) {
	nettest.Enter(t)
	o := openOwn(t)
	other := nettest.NewHost(t)
	var client, server int
	other.Do(func() { client, server = connect(t, "127.0.0.1:0") })
	assert.Empty(t, readAll(t, o), "of another network namespace")
	closeAll(t, client, server)

	listening, address := listener(t, "127.0.0.1:0")
	require.NoError(t, unix.SetsockoptInt(listening, unix.SOL_TCP, unix.TCP_USER_TIMEOUT, probe.SocketMark))
	client = dial(t, address)
	server, _, err := unix.Accept(listening)
	require.NoError(t, err)
	sockets := readAll(t, o)
	require.Len(t, sockets, 1, "accepted sockets inherit the mark")
	assert.NotNil(t, find(t, sockets, client))
	closeAll(t, client, server, listening)
}

// What a sandbox refuses is no number, and not that there is nothing.
func TestOwn_refused(t *testing.T) {
	for name, option := range map[string]uint32{"SO_COOKIE": unix.SO_COOKIE, "SO_PROTOCOL": unix.SO_PROTOCOL} {
		t.Run(name, func(t *testing.T) {
			nettest.Enter(t) // the thread ends with the test, and with it what is refused to it
			o := openOwn(t)
			client, server := connect(t, "127.0.0.1:0")
			defer closeAll(t, client, server)
			require.Len(t, readAll(t, o), 2)
			newClient, newServer := connect(t, "127.0.0.1:0")
			defer closeAll(t, newClient, newServer)
			refuse(t, option)
			o.Begin()
			_, err := o.Next(1<<20, func(*Socket) {})
			assert.ErrorIs(t, err, unix.ENOPROTOOPT)
			assert.ErrorContains(t, err, name)
			if option == unix.SO_COOKIE {
				_, err = OpenOwn(kernelfs.System())
				assert.ErrorIs(t, err, unix.ENOPROTOOPT)
			}
		})
	}
}

// refuse makes getsockopt(2) with an option of sockets fail for the calling thread, for good.
func refuse(t *testing.T, option uint32) {
	const loadLevel, loadOption, loadCall = 24, 32, 0
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: loadCall},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 5, K: unix.SYS_GETSOCKOPT},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: loadLevel},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.SOL_SOCKET},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: loadOption},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: option},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.ENOPROTOOPT)}, // SECCOMP_RET_ERRNO
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                            // SECCOMP_RET_ALLOW
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, 2, uintptr(unsafe.Pointer(&program)))
	require.Zero(t, errno)
}

// The kernel's numbers are those that ss(8) shows of the same socket.
func TestOwn_againstSS(t *testing.T) {
	nettest.Enter(t)
	o := openOwn(t)
	client, server := connect(t, "127.0.0.1:0")
	defer closeAll(t, client, server)
	for range 50 {
		send(t, client, server, 20_000)
		send(t, server, client, 10)
	}
	s := find(t, readAll(t, o), client)
	out, err := exec.Command("ss", "-tinHO", "src", fmt.Sprintf("127.0.0.1:%d", s.Local.Port())).Output()
	if err != nil {
		t.Skip("needs ss(8): ", err)
	}
	number := func(name string) float64 {
		match := regexp.MustCompile(`\b` + name + `:([0-9.]+)`).FindSubmatch(out)
		require.NotNil(t, match, "%s in %s", name, out)
		value, err := strconv.ParseFloat(string(match[1]), 64)
		require.NoError(t, err)
		return value
	}
	assert.InDelta(t, number("rtt"), float64(s.Info.RTT)/1000, 0.0011)
	assert.InDelta(t, number("minrtt"), float64(s.Info.MinRTT)/1000, 0.0011)
	assert.InDelta(t, number("bytes_sent"), float64(s.Info.BytesSent), 0)
	assert.InDelta(t, number("bytes_received"), float64(s.Info.BytesReceived), 0)
	assert.InDelta(t, number("segs_out"), float64(s.Info.SegmentsSent), 0)
}

// Descriptors come and go 5,000 times a second while they are read, on numbers that the next socket to somebody else gets, and that
// files get. No reading fails, and what is read of a connection is always that connection's.
func TestOwn_storm(t *testing.T) {
	nettest.Enter(t)
	o := openOwn(t)
	const most = 4
	// To each address bytes are sent of that number alone.
	var listeners []int
	var addresses []netip.AddrPort
	for i := range most {
		fd, address := listener(t, fmt.Sprintf("127.0.0.%d:0", i+1))
		listeners, addresses = append(listeners, fd), append(addresses, address)
	}
	var stop atomic.Bool
	var opened atomic.Int64
	var others sync.WaitGroup
	host := nettestThread(t)
	for i := range most {
		others.Add(1)
		go func() {
			defer others.Done()
			host()
			text := make([]byte, 1000*(i+1))
			for !stop.Load() {
				client := dial(t, addresses[i])
				_, _ = unix.Write(client, text)
				server, _, err := unix.Accept4(listeners[i], unix.SOCK_CLOEXEC)
				if err != nil {
					t.Errorf("accept: %v", err)
					return
				}
				_ = unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
				unix.Close(client) // a reset: no TIME_WAIT
				unix.Close(server)
				if file, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
					unix.Close(file)
				}
				opened.Add(2)
			}
		}()
	}
	began := time.Now()
	readings, told := 0, 0
	last := make(map[uint64]netip.AddrPort)
	for time.Since(began) < 2*time.Second {
		for _, s := range readAll(t, o) {
			told++
			if before, known := last[s.Cookie]; known {
				assert.Equal(t, before, s.Remote)
			}
			last[s.Cookie] = s.Remote
			for i, a := range addresses {
				switch want := uint64(1000 * (i + 1)); {
				case s.Remote == a:
					assert.Contains(t, []uint64{0, want}, s.Info.BytesSent, "from the client to %s", a)
					assert.Zero(t, s.Info.BytesReceived)
				case s.Local == a:
					assert.Zero(t, s.Info.BytesSent, "from %s", a)
					assert.Contains(t, []uint64{0, want, want + 1}, s.Info.BytesReceived)
				}
			}
		}
		readings++
		runtime.Gosched()
	}
	stop.Store(true)
	others.Wait()
	t.Logf("%d sockets opened and closed in %v, %d readings told of %d", opened.Load(), time.Since(began).Round(time.Millisecond), readings, told)
	assert.NotZero(t, told)
	closeAll(t, listeners...)
	assert.Empty(t, readAll(t, o))
	assert.Empty(t, o.byCookie)
	assert.Empty(t, o.live)
}

// nettestThread returns what moves a goroutine to the namespace of the calling thread, for good.
func nettestThread(t *testing.T) (enter func()) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return func() {
		runtime.LockOSThread()
		require.NoError(t, unix.Setns(fd, unix.CLONE_NEWNET))
	}
}

func TestOwn_tableSize(t *testing.T) {
	o := openOwn(t)
	assert.GreaterOrEqual(t, o.tableSize(), 64)
	high, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 5000)
	require.NoError(t, err)
	assert.Greater(t, o.tableSize(), high)
	unix.Close(high)
	_, ok := parseTableSize([]byte("Name:\tx\nFDSize:\tmany\n"))
	assert.False(t, ok)
	_, ok = parseTableSize([]byte("Name:\tFDSize:\t1\n"))
	assert.False(t, ok)
}

// The host may close the descriptor, and open another file by its number.
func TestOwn_tableSizeAfterClosing(t *testing.T) {
	o := openOwn(t)
	before := o.tableSize()
	require.NoError(t, unix.Close(o.status.Number()))
	assert.Equal(t, before, o.tableSize())
	file, err := unix.Open("/proc/self/limits", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(file, o.status.Number(), unix.O_CLOEXEC))
	number := o.status.Number()
	assert.Equal(t, before, o.tableSize())
	closeAll(t, file, number) // which are still the host's
}

// Many connections at once are found by the next reading, also where that does not look at the whole table.
func TestOwn_manyAtOnce(t *testing.T) {
	t.Run("counted", func(t *testing.T) { testManyAtOnce(t, openDescriptors) })
	t.Run("before Linux 6.2", func(t *testing.T) { testManyAtOnce(t, func() int { return 0 }) })
}

func testManyAtOnce(t *testing.T, count func() int) {
	nettest.Enter(t)
	o := openOwn(t)
	o.count = count
	high, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 4000) // the table holds them all already
	require.NoError(t, err)
	require.NoError(t, unix.Close(high))
	require.Empty(t, readAll(t, o))
	require.Empty(t, readAll(t, o))
	listening, address := listener(t, "127.0.0.1:0")
	fds := []int{listening}
	for range 3 * newDescriptors {
		client := dial(t, address)
		server, _, err := unix.Accept4(listening, unix.SOCK_CLOEXEC)
		require.NoError(t, err)
		fds = append(fds, client, server)
	}
	assert.Len(t, readAll(t, o), 6*newDescriptors)
	require.Less(t, o.next, o.tableSize())
	closeAll(t, fds...)
}

// A descriptor of O_PATH is open and cannot be asked: it does not make every reading look at the whole table.
func TestOwn_pathDescriptors(t *testing.T) {
	if openDescriptors() == 0 {
		t.Skip("needs a kernel that counts descriptors (Linux 6.2)")
	}
	nettest.Enter(t)
	o := openOwn(t)
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	high, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 4000) // the table is large
	require.NoError(t, err)
	require.NoError(t, unix.Close(high))
	whole := 0
	for range 2 * wholePeriod {
		require.Empty(t, readAll(t, o))
		if o.next == o.tableSize() {
			whole++
		}
	}
	assert.InDelta(t, 3, whole, 1)
}

func BenchmarkOwn(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			nettest.Enter(b)
			o := openOwn(b)
			listening, address := listener(b, "127.0.0.1:0")
			var fds []int
			for range n / 2 {
				client := dial(b, address)
				server, _, err := unix.Accept4(listening, unix.SOCK_CLOEXEC)
				require.NoError(b, err)
				fds = append(fds, client, server)
			}
			count := 0
			yield := func(*Socket) { count++ }
			reading := func() {
				count = 0
				o.Begin()
				done, err := o.Next(1<<30, yield)
				if !done || err != nil {
					b.Fatal(err)
				}
			}
			reading()
			time.Sleep(1100 * time.Millisecond) // idle connections: of others the address is asked for too
			for b.Loop() {
				reading()
			}
			require.Equal(b, n, count)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/socket")
			closeAll(b, append(fds, listening)...)
		})
	}
}

// The connections of the namespace are those that the process has, with the same cookies and numbers.
func TestDiag_againstOwn(t *testing.T) {
	nettest.Enter(t)
	o := openOwn(t)
	client, server := connect(t, "127.0.0.1:0")
	six, sixServer := connect(t, "[::1]:0")
	mapped, mappedServer := connect(t, "[::ffff:127.0.0.1]:0")
	defer closeAll(t, client, server, six, sixServer, mapped, mappedServer)
	send(t, client, server, 4711)
	d, err := OpenDiag()
	require.NoError(t, err)
	defer d.Close()
	dumped := make(map[uint64]Socket)
	require.NoError(t, d.Dump(func(s *Socket) { dumped[s.Cookie] = *s }))
	own := readAll(t, o)
	require.Len(t, own, 6)
	require.Len(t, dumped, 6)
	for _, s := range own {
		other := dumped[s.Cookie]
		assert.Equal(t, s.Local, other.Local)
		assert.Equal(t, s.Remote, other.Remote)
		assert.Equal(t, s.Info.BytesSent, other.Info.BytesSent)
		assert.Equal(t, s.Info.SegmentsSent, other.Info.SegmentsSent)
		assert.NotZero(t, other.Inode)
	}
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(client, &st))
	assert.Equal(t, uint32(st.Ino), dumped[find(t, own, client).Cookie].Inode)
}

// A child's monitor tests and probes too: its sockets are seen from here by inet_diag only. As stamp.Mark does.
func TestDiag_netmonsOwn(t *testing.T) {
	nettest.Enter(t)
	d, err := OpenDiag()
	require.NoError(t, err)
	defer d.Close()
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		client, server := connect(t, at)
		for _, half := range []int{unix.IP_MULTICAST_LOOP, unix.IP_MULTICAST_ALL} {
			require.NoError(t, unix.SetsockoptInt(client, unix.SOL_IP, half, 0))
		}
		local, err := unix.Getsockname(server)
		require.NoError(t, err)
		port := uint16(0)
		switch name := local.(type) {
		case *unix.SockaddrInet4:
			port = uint16(name.Port)
		case *unix.SockaddrInet6:
			port = uint16(name.Port)
		}
		var dumped []uint16
		require.NoError(t, d.Dump(func(s *Socket) { dumped = append(dumped, s.Local.Port()) }))
		assert.Equal(t, []uint16{port}, dumped, "the other end's alone")
		closeAll(t, client, server)
	}
}

func TestEachMessage_truncated(t *testing.T) {
	var request []byte
	request = appendRequest(request, familyInet)
	assert.Len(t, request, sizeofRequest)
	_, err := eachMessage(bytes.Repeat([]byte{1}, 20), 1, func(*Socket) {})
	assert.ErrorIs(t, err, ErrMessage)
}
