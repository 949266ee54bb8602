package tool

import "time"

// Program is a program to start.
type Program struct {
	Path        string   // absolute, or relative to the working directory of the process
	Arguments   []string // the name first
	Environment []string // all of it, as "NAME=value"
	// Descriptors of this process that become the program's standard output and error. It gets no other, and /dev/null to read.
	Output, Errors int
}

// Spawn starts a program in a session of its own, in the network namespace of the calling thread. That thread has to live as long as
// the program: it ends with it.
//
// Errors: what the system says where no process can be made.
type Spawn func(Program) (Running, error)

// Running is a program that was started. One goroutine uses it.
type Running interface {
	// Ended tells whether the program and what it left behind has ended. From then on nothing else may be called.
	Ended() (exit Exit, ended bool)
	// Kill kills the program and all that it started. It does not wait; it may be called again.
	Kill()
}

// Exit is how a program ended.
type Exit struct {
	Err    error // it could not be started: what execve(2) says
	Status int   // its exit status, -1 where a signal ended it or nothing is known
	Signal int   // that ended it, 0 for none
}

// Output is what a program printed.
type Output struct {
	Text, Errors []byte
	Exit         Exit
}

// MostOutput is how much a program may print on each of its streams.
const MostOutput = 1 << 20

// Limits are those of a run.
type Limits struct {
	Timeout time.Duration
	Stop    func() bool // tells that nobody wants the result any more
}
