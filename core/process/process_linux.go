package process

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
)

// HasChildren tells whether this process has any child, without reading /proc.
//
// Source: waitid(2) with WNOHANG and WNOWAIT, which waits for nothing and leaves everything as it is, the host's own waiting too.
func HasChildren() bool {
	_, _, errno := unix.RawSyscall6(unix.SYS_WAITID, unix.P_ALL, 0, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, 0, 0)
	return errno != unix.ECHILD
}

// Read finds the processes and their sockets. Children below a Ray daemon are not this process's: they are workers that are told of
// by themselves.
//
// Errors: why children cannot be found at all. What could not be read of single processes is in the Family.
func Read(fs kernelfs.FS, ray Ray) (Family, error) {
	w := walk{fs: fs, family: Family{Children: make(map[uint32]bool), Ray: make(map[uint32]bool)}, seen: make(map[int]bool)}
	own := os.Getpid()
	w.seen[own] = true
	children, err := w.children(own)
	if err != nil {
		return w.family, err
	}
	w.descend(own, children)
	if ray.Worker {
		w.daemons(own, ray)
	}
	return w.family, nil
}

// walk is one reading.
type walk struct {
	fs     kernelfs.FS
	family Family
	seen   map[int]bool
	buffer []byte
}

// open opens the folder of a process in /proc. What is read below it is that process's, or nothing once it is gone, also when its
// number is another's by then.
func (w *walk) open(pid int) (folder int, err error) {
	return retry(func() (int, error) {
		return unix.Open(w.fs.Path("proc/"+strconv.Itoa(pid)), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// descend takes in the processes with a parent, and those below them.
func (w *walk) descend(parent int, pids []int) {
	type step struct{ parent, pid int }
	var steps []step
	add := func(parent int, pids []int) {
		for _, pid := range pids {
			if !w.seen[pid] && w.family.Processes < MostProcesses {
				w.seen[pid] = true
				w.family.Processes++
				steps = append(steps, step{parent, pid})
			}
		}
	}
	add(parent, pids)
	for len(steps) > 0 {
		next := steps[len(steps)-1]
		steps = steps[:len(steps)-1]
		folder, err := w.open(next.pid)
		if err != nil {
			continue // it has ended
		}
		name, parent, err := w.stat(folder)
		switch {
		case err != nil, parent != next.parent: // another process has its number
		case name == keeper: // what it keeps is no part of the job
		case isDaemon(name):
			w.sockets(folder, name, next.pid, w.family.Ray)
		default:
			w.sockets(folder, name, next.pid, w.family.Children)
			if below, err := w.childrenIn(folder); err == nil {
				add(next.pid, below)
			}
		}
		unix.Close(folder)
	}
}

// daemons takes in the Ray daemons that this worker's ancestors are, and those that have the same parent as one of them.
func (w *walk) daemons(own int, ray Ray) {
	const mostAncestors = 16
	candidates := []int{ray.Raylet}
	for pid := own; len(candidates) < mostAncestors; {
		folder, err := w.open(pid)
		if err != nil {
			break
		}
		_, parent, err := w.stat(folder)
		unix.Close(folder)
		if err != nil || parent <= 0 {
			break
		}
		candidates = append(candidates, parent)
		pid = parent
	}
	for _, pid := range candidates {
		if parent, is := w.daemon(pid); is && parent > 0 {
			siblings, _ := w.children(parent)
			for _, sibling := range siblings {
				w.daemon(sibling)
			}
		}
	}
}

// daemon takes in a process if it is a daemon of Ray.
func (w *walk) daemon(pid int) (parent int, is bool) {
	if pid <= 0 {
		return 0, false
	}
	folder, err := w.open(pid)
	if err != nil {
		return 0, false
	}
	defer unix.Close(folder)
	name, parent, err := w.stat(folder)
	if err != nil || !isDaemon(name) {
		return 0, false
	}
	if !w.seen[pid] {
		w.seen[pid] = true
		w.family.Processes++
		w.sockets(folder, name, pid, w.family.Ray)
	}
	return parent, true
}

func (w *walk) stat(folder int) (name string, parent int, err error) {
	text, err := w.read(folder, "stat")
	if err != nil {
		return "", 0, err
	}
	return parseStat(text)
}

// read reads a file below a folder, the first page of it at least.
func (w *walk) read(folder int, path string) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Openat(folder, path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	w.buffer = slices.Grow(w.buffer[:0], 4096)
	for {
		w.buffer = slices.Grow(w.buffer, 4096)
		n, err := retry(func() (int, error) { return unix.Read(fd, w.buffer[len(w.buffer):cap(w.buffer)]) })
		if n <= 0 || err != nil {
			return w.buffer, err
		}
		if w.buffer = w.buffer[:len(w.buffer)+n]; len(w.buffer) > 1<<20 {
			return w.buffer, nil
		}
	}
}

func (w *walk) children(pid int) ([]int, error) {
	folder, err := w.open(pid)
	if err != nil {
		return nil, fmt.Errorf("process: children of %d: %w", pid, err)
	}
	defer unix.Close(folder)
	return w.childrenIn(folder)
}

// childrenIn lists the children that the threads of a process have.
func (w *walk) childrenIn(folder int) (pids []int, err error) {
	threads, err := w.list(folder, "task", mostThreads)
	if err != nil {
		return nil, fmt.Errorf("process: list threads: %w", err)
	}
	for _, thread := range threads {
		text, err := w.read(folder, "task/"+thread+"/children")
		switch {
		case errors.Is(err, unix.ENOENT) && len(threads) == 1:
			return nil, errors.New("this kernel has no /proc/PID/task/TID/children")
		case err == nil:
			pids = append(pids, parseChildren(text)...)
		}
	}
	return pids, nil
}

// list lists a folder below a folder.
func (w *walk) list(folder int, path string, most int) (names []string, err error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(folder, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var entries [8 << 10]byte
	for len(names) < most {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, entries[:]) })
		if err != nil || n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(entries[:n], most, names)
	}
	return names, nil
}

// sockets takes in the sockets of a process.
func (w *walk) sockets(folder int, name string, pid int, into map[uint32]bool) {
	descriptors, err := w.list(folder, "fd", mostSockets)
	if err != nil {
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			if w.family.Refused++; w.family.Refused == 1 {
				w.family.Reason = fmt.Sprintf("process %d (%s): %v", pid, name, err)
			}
		}
		return
	}
	var link [64]byte
	for _, descriptor := range descriptors {
		if len(w.family.Children)+len(w.family.Ray) >= mostSockets {
			return
		}
		n, err := w.readlink(folder, "fd/"+descriptor, link[:])
		if err != nil {
			continue
		}
		if inode, ok := parseSocket(link[:n]); ok {
			into[inode] = true
		}
	}
}

func (w *walk) readlink(folder int, path string, into []byte) (int, error) {
	return retry(func() (int, error) { return unix.Readlinkat(folder, path, into) })
}
