// Package process finds the sockets of this process's children, and of the daemons of the Ray node that it is a worker of.
//
// Source: /proc/PID/task/TID/children (proc(5), since Linux 4.2 with CONFIG_PROC_CHILDREN), /proc/PID/stat and the links of
// /proc/PID/fd, which only processes of the same user may read (PTRACE_MODE_READ, ptrace(2)). Nothing is sent to a process, and none
// is stopped or traced.
package process

import (
	"bytes"
	"errors"
	"strconv"

	"netmon/core/kernelfs"
)

// Bounds of a reading.
const (
	MostProcesses = 1024
	mostThreads   = 4096  // of one process
	mostSockets   = 65536 // of all together
)

// ErrStat means that /proc/PID/stat is not as documented.
var ErrStat = errors.New("process: malformed stat")

// Ray says what is known of the Ray node from a worker's environment.
type Ray struct {
	Worker bool // it is one
	Raylet int  // process id of the node's raylet, 0 where it is not known
}

// Family are the sockets of other processes that belong to this one's work, by inode.
type Family struct {
	Children  map[uint32]bool
	Ray       map[uint32]bool
	Processes int // looked at
	// Refused are how many could not be read, and Reason is why, for the first of them.
	Refused int
	Reason  string
}

// isDaemon tells whether a process of that name is one of a Ray node's daemons: the raylet, which holds the object store (plasma), and
// the control service of its head.
func isDaemon(name string) bool { return name == "raylet" || name == "gcs_server" }

// keeper is the name of the process between this one and a program of a bandwidth test (capi/spawn.c).
const keeper = "netmon-keeper"

// parseChildren reads the process ids of /proc/PID/task/TID/children. What is no number is passed over.
func parseChildren(text []byte) (pids []int) {
	for {
		field, rest := kernelfs.Field(text)
		if len(field) == 0 {
			return pids
		}
		text = rest
		if pid, err := strconv.ParseInt(string(bytes.TrimSpace(field)), 10, 32); err == nil && pid > 0 {
			pids = append(pids, int(pid))
		}
	}
}

// parseStat reads a process's name and its parent from /proc/PID/stat. The name may hold anything, parentheses too.
//
// Errors: ErrStat.
func parseStat(text []byte) (name string, parent int, err error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return "", 0, ErrStat
	}
	_, rest := kernelfs.Field(text[end+1:]) // its state
	number, _, err := kernelfs.Uint(rest)
	if err != nil || number > 1<<31 {
		return "", 0, ErrStat
	}
	return string(text[open+1 : end]), int(number), nil
}

// parseSocket reads the inode out of a link of /proc/PID/fd: "socket:[12345]".
func parseSocket(link []byte) (inode uint32, ok bool) {
	digits, found := bytes.CutPrefix(link, []byte("socket:["))
	digits, closed := bytes.CutSuffix(digits, []byte("]"))
	if !found || !closed {
		return 0, false
	}
	number, err := strconv.ParseUint(string(digits), 10, 32)
	return uint32(number), err == nil
}
