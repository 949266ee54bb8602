package tcpinfo

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe"
)

// Own reads the TCP connections of this process and of one network namespace. Not safe for concurrent use.
//
// The host opens, closes and reuses descriptors meanwhile, so all that is read through one is only believed where the socket's cookie
// is afterwards what it was before, in this reading or in the last.
type Own struct {
	status    *kernelfs.File // nil where it could not be opened
	path      string         // of status
	buffer    []byte
	namespace uint64 // cookie of the network namespace, 0 where the kernel does not tell

	slots    []slot // by descriptor
	byCookie map[uint64]*Socket
	live     []*Socket
	number   uint64     // of this reading
	next     int        // descriptor to read next
	size     int        // of the table of descriptors
	hidden   int        // sockets that were too many
	highest  int        // descriptor that was open in this reading, -1 for none yet
	limit    int        // descriptors that are looked at in this reading
	count    func() int // openDescriptors
	open     int        // descriptors that are open, 0 where the kernel does not tell; else
	found    int        // those that were found open in this reading
	unseen   int        // those that are open and were not found when the whole table was looked at last
	known    int        // descriptors that are looked at however many were found
	sized    bool       // limit is the size of the table
	clock    clock.Clock
	now      time.Duration // when the descriptors of this call were begun with
	began    time.Duration // when this reading was
	before   time.Duration // when the last one was that ended

	info    [infoBytes]byte
	address [sizeofAddress]byte
}

// slot is what a descriptor meant when it was read last.
type slot struct {
	cookie uint64
	socket *Socket // nil: not to be told of, unless pending
	// pending is a TCP socket without a connection: it may get one.
	pending bool
}

// OpenOwn prepares to read the sockets of the calling thread's network namespace.
//
// Errors: what keeps sockets from being told apart (no SO_COOKIE before Linux 4.12, or a sandbox that refuses it).
func OpenOwn(fs kernelfs.FS) (*Own, error) {
	o := &Own{byCookie: make(map[uint64]*Socket), clock: clock.System(), count: openDescriptors, highest: -1, path: fs.Path("proc/self/status")}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("tcpinfo: open a socket: %w", err)
	}
	// Nothing happens to the descriptor between these lines that could not happen to any other.
	var cookie uint64
	errno := option64(fd, unix.SO_COOKIE, &cookie)
	if errno == 0 && option64(fd, unix.SO_NETNS_COOKIE, &o.namespace) != 0 { // before Linux 5.14
		o.namespace = 0
	}
	unix.Close(fd)
	if errno != 0 {
		return nil, refused("SO_COOKIE", errno)
	}
	o.status, _ = kernelfs.Open(o.path)
	return o, nil
}

func refused(what string, errno syscall.Errno) error {
	return fmt.Errorf("tcpinfo: the system does not tell of sockets: getsockopt(2) with %s: %w", what, errno)
}

// Close closes what OpenOwn opened.
func (o *Own) Close() { o.closeStatus() }

const (
	// The kernel gives a new descriptor the lowest number that is free, so a reading ends where so many numbers beyond the highest one of
	// this reading and the last are free.
	newDescriptors = 64
	// Where the kernel tells how many are open, a reading looks so far beyond the highest one of the last: the host opens others while it
	// lasts, which are found in place of new ones with higher numbers.
	moreDescriptors = 8
	// Where the kernel does not tell how many are open, all of the table is looked at when it has grown, and as often, for what was put at
	// a high number by dup2(2).
	wholePeriod = 16
)

// Begin starts a reading of all sockets.
func (o *Own) Begin() {
	before := o.highest
	o.number++
	o.next, o.hidden, o.highest, o.found = 0, 0, -1, 0
	o.began = o.clock.Monotonic()
	o.open = o.count()
	if o.open > 0 {
		if o.number%wholePeriod == 0 {
			o.unseen = 0
		}
		o.known, o.limit, o.sized = before+1+moreDescriptors, before+1+newDescriptors, false
		return
	}
	size := o.tableSize()
	o.limit = size
	if size == o.size && o.number%wholePeriod != 0 {
		o.limit = min(size, before+1+newDescriptors)
	}
	o.size = size
}

// ended tells whether all descriptors were looked at.
func (o *Own) ended() bool {
	if o.open > 0 && o.next >= o.known && o.found+o.unseen >= o.open {
		return true
	}
	if o.next >= o.limit && o.open > 0 && !o.sized { // some were closed meanwhile, or have high numbers
		o.limit, o.sized = o.tableSize(), true
	}
	if o.next < o.limit {
		return false
	}
	if o.sized { // those of O_PATH do not let themselves be asked
		o.unseen = max(0, o.open-o.found)
	}
	return true
}

// openDescriptors is how many descriptors are open, 0 where the kernel does not tell.
//
// Source: the size of /proc/self/fd (proc_fd_getattr of fs/proc/fd.c, since Linux 6.2).
func openDescriptors() int {
	var st unix.Stat_t
	if unix.Stat("/proc/self/fd", &st) != nil {
		return 0
	}
	return int(st.Size)
}

// Hidden is how many connections of this reading were too many to be told.
func (o *Own) Hidden() int { return o.hidden }

// Next looks at the next descriptors, at most so many, and yields the connections among them, each once in a reading. A connection
// that was told before and has ended since is yielded once more, with the state Close. done tells that all were looked at. yield may
// keep the Socket until it is not yielded in a reading any more.
//
// Errors: what keeps the kernel from telling of sockets at all.
func (o *Own) Next(most int, yield func(*Socket)) (done bool, err error) {
	o.now = o.clock.Monotonic()
	for end := o.next + most; !o.ended(); o.next++ {
		if o.next == end {
			return false, nil
		}
		if err := o.look(o.next, yield); err != nil {
			return false, err
		}
		if o.highest == o.next {
			o.found++
			if o.open == 0 {
				o.limit = max(o.limit, min(o.size, o.highest+1+newDescriptors))
			}
		}
	}
	o.forget()
	o.before = o.began
	return true, nil
}

// forget drops what is known of sockets that this reading did not find.
func (o *Own) forget() {
	kept := o.live[:0]
	for _, s := range o.live {
		if s.seen == o.number {
			kept = append(kept, s)
		} else if o.byCookie[s.Cookie] == s {
			delete(o.byCookie, s.Cookie)
		}
	}
	clear(o.live[len(kept):])
	o.live = kept
}

// errMoved means that a descriptor came to mean something else while it was read.
var errMoved = errors.New("the descriptor means something else")

// look reads what one descriptor leads to.
func (o *Own) look(fd int, yield func(*Socket)) error {
	// A descriptor that led to a connection mostly still does. What it tells is believed where its cookie is the same afterwards: it was
	// another socket's only if that socket was put in its place and taken away again for this one within the microsecond in between.
	if fd < len(o.slots) {
		if at := &o.slots[fd]; at.socket != nil && at.socket.seen != o.number {
			o.highest = fd
			if err := o.read(fd, at, yield); err != errMoved {
				return err
			}
		}
	}
	const tries = 4 // a descriptor that means something else each time is read again in the next reading
	for range tries {
		var cookie uint64
		switch errno := option64(fd, unix.SO_COOKIE, &cookie); errno {
		case 0:
		case unix.EBADF, unix.ENOTSOCK:
			if errno == unix.ENOTSOCK {
				o.highest = fd
			}
			if fd < len(o.slots) {
				o.slots[fd] = slot{}
			}
			return nil
		default:
			return refused("SO_COOKIE", errno)
		}
		o.highest = fd
		if fd >= len(o.slots) {
			o.slots = append(o.slots, make([]slot, fd+1-len(o.slots))...)
		}
		at := &o.slots[fd]
		if at.cookie != cookie {
			*at = slot{cookie: cookie, socket: o.byCookie[cookie]}
			at.pending = at.socket == nil // or something else altogether, which is to be found out
		}
		var err error
		switch {
		case at.socket != nil && at.socket.seen == o.number: // by another descriptor
			return nil
		case at.socket != nil:
			err = o.read(fd, at, yield)
		case at.pending:
			if err = o.describe(fd, at); err == nil && at.socket != nil {
				err = o.read(fd, at, yield)
			}
		}
		if err != errMoved {
			return err
		}
	}
	return nil
}

// still is errMoved where the descriptor does not mean that socket any more.
func still(fd int, cookie uint64) error {
	var now uint64
	switch errno := option64(fd, unix.SO_COOKIE, &now); {
	case errno == 0 && now == cookie:
		return nil
	case errno == 0, errno == unix.EBADF, errno == unix.ENOTSOCK:
		return errMoved
	default:
		return refused("SO_COOKIE", errno)
	}
}

// read yields a socket that is known.
func (o *Own) read(fd int, at *slot, yield func(*Socket)) error {
	s := at.socket
	length := uint32(len(o.info))
	// The kernel takes the socket's lock, which another thread may hold while it sends.
	_, _, infoErrno := syscall.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&o.info)), uintptr(unsafe.Pointer(&length)), 0)
	known := infoErrno == 0 && s.Info.ParseInfo(o.info[:length])
	same := true
	var addressErr error
	if known && s.Info.State.Connected() && o.mayBeNew(&s.Info) {
		var n int
		var notConnected bool
		if n, notConnected, addressErr = o.peerAddress(fd); addressErr == nil {
			same = !notConnected && bytes.Equal(s.raw[:n], o.address[:n])
		}
	}
	if err := still(fd, at.cookie); err != nil {
		return err
	}
	switch {
	case infoErrno != 0:
		return refused("TCP_INFO", infoErrno)
	case !known:
		return fmt.Errorf("tcpinfo: the kernel's TCP_INFO has %d bytes only", length)
	case addressErr != nil:
		return addressErr
	case !same: // it was connected to somebody else meanwhile
		o.drop(at)
		return errMoved
	case s.Info.State == Close:
		o.drop(at)
	case !s.Info.State.Connected(): // listening, or connecting anew
		o.drop(at)
		return nil
	}
	s.seen = o.number
	yield(s)
	return nil
}

// mayBeNew tells whether a socket may have been connected anew, perhaps to somebody else, since its last reading. It has not where its
// clocks, which begin with the handshake, show that nothing was sent, or received, since before.
func (o *Own) mayBeNew(i *Info) bool {
	const margin = time.Second // for the time since o.now
	return time.Duration(max(i.LastDataSent, i.LastDataReceived))*time.Millisecond <= o.now-o.before+margin
}

// drop takes a socket that lost its connection for one that may get another.
func (o *Own) drop(at *slot) {
	delete(o.byCookie, at.cookie)
	at.socket, at.pending = nil, true
}

// describe finds out what a socket is, once in its life but for those that are not connected yet.
func (o *Own) describe(fd int, at *slot) error {
	var protocol, userTimeout int32
	var local, remote rawAddress
	var namespace uint64
	pending, foreign, marked := false, false, false
	n := 0
	errno := option32(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL, &protocol)
	isTCP := errno == 0 && protocol == unix.IPPROTO_TCP
	var addressErr error
	if isTCP {
		if n, pending, addressErr = o.peerAddress(fd); addressErr == nil && !pending {
			copy(remote.raw[:], o.address[:n])
			foreign = o.namespace != 0 && option64(fd, unix.SO_NETNS_COOKIE, &namespace) == 0 && namespace != o.namespace
			marked = option32(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, &userTimeout) == 0 && userTimeout == probe.SocketMark
			local.length = o.localAddress(fd, &local.raw)
		}
	}
	if err := still(fd, at.cookie); err != nil {
		return err
	}
	switch {
	case errno != 0: // every socket has a protocol
		return refused("SO_PROTOCOL", errno)
	case addressErr != nil:
		return addressErr
	case !isTCP, foreign, marked:
		at.pending = false
		return nil
	case pending:
		return nil
	}
	s := &Socket{Cookie: at.cookie, raw: remote.raw}
	var okLocal, okRemote bool
	s.Remote, okRemote = parseAddress(remote.raw[:n])
	s.Local, okLocal = parseAddress(local.raw[:local.length])
	if !okRemote || !okLocal { // of no family known here
		at.pending = false
		return nil
	}
	if len(o.byCookie) >= MostSockets {
		o.hidden++
		return nil
	}
	o.byCookie[at.cookie] = s
	o.live = append(o.live, s)
	at.socket, at.pending = s, false
	return nil
}

// rawAddress is an address as the kernel tells it.
type rawAddress struct {
	raw    [sizeofAddress]byte
	length int
}

// peerAddress asks for the other end's address.
func (o *Own) peerAddress(fd int) (n int, notConnected bool, err error) {
	length := uint32(len(o.address))
	_, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&o.address)), uintptr(unsafe.Pointer(&length)))
	switch errno {
	case 0:
		return min(int(length), len(o.address)), false, nil
	case unix.ENOTCONN, unix.EINVAL, unix.EBADF, unix.ENOTSOCK, unix.EOPNOTSUPP:
		return 0, true, nil
	default:
		return 0, false, fmt.Errorf("tcpinfo: the system does not tell of sockets: getpeername(2): %w", errno)
	}
}

func (o *Own) localAddress(fd int, raw *[sizeofAddress]byte) int {
	length := uint32(len(raw))
	if _, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(raw)), uintptr(unsafe.Pointer(&length))); errno != 0 {
		return 0
	}
	return min(int(length), len(raw))
}

// option32 and option64 are getsockopt(2) for options that the kernel tells without waiting for anything.
func option32(fd, level, name int, value *int32) syscall.Errno {
	length := uint32(unsafe.Sizeof(*value))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(value)),
		uintptr(unsafe.Pointer(&length)), 0)
	return errno
}

func option64(fd, name int, value *uint64) syscall.Errno {
	length := uint32(unsafe.Sizeof(*value))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(name), uintptr(unsafe.Pointer(value)),
		uintptr(unsafe.Pointer(&length)), 0)
	return errno
}

// tableSize is how many descriptors there may be.
//
// Source: FDSize of /proc/self/status (proc(5)), which is the size of the table in the kernel.
func (o *Own) tableSize() int {
	if size, ok := o.readTableSize(); ok {
		return size
	}
	// The host closed the descriptor, or there was none left before.
	o.closeStatus()
	if o.status, _ = kernelfs.Open(o.path); o.status != nil {
		if size, ok := o.readTableSize(); ok {
			return size
		}
	}
	const most = 1 << 16
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return most
	}
	return int(min(limit.Cur, most))
}

func (o *Own) readTableSize() (size int, ok bool) {
	if o.status == nil {
		return 0, false
	}
	text, err := o.status.ReadRecord(o.buffer)
	o.buffer = text[:0]
	if err != nil {
		return 0, false
	}
	return parseTableSize(text)
}

func (o *Own) closeStatus() {
	if o.status != nil {
		o.status.Close()
	}
}

func parseTableSize(text []byte) (size int, ok bool) {
	_, rest, found := bytes.Cut(text, []byte("\nFDSize:"))
	if !found {
		return 0, false
	}
	line, _ := kernelfs.Line(rest)
	value, _, err := kernelfs.Uint(line)
	return int(min(value, 1<<30)), err == nil
}
