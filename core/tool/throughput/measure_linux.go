package throughput

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/tool"
)

// client is the asking end of a test.
type client struct {
	Request
	clock    clock.Clock
	control  line
	deadline time.Duration
	agreed   message
	answers  []message // that came early
	gone     error     // why no more come
	set      []unix.PollFd
}

// Measure runs a test from the calling thread's network namespace, and waits for it. There is a result for each direction; where
// its Err is set, the rest is not known.
func Measure(r Request, clk clock.Clock) []tool.Result {
	c := &client{Request: r, clock: clk, deadline: clk.Monotonic() + r.Timeout}
	results := make([]tool.Result, len(r.Directions))
	err := c.agree()
	for i, direction := range r.Directions {
		results[i] = tool.Result{Direction: direction, Parallel: r.Connections}
		if err == nil {
			err = c.measure(&results[i])
		}
		if err != nil {
			results[i] = tool.Result{Direction: direction, Parallel: r.Connections, Err: err}
		}
	}
	c.control.socket.Close()
	return results
}

// until waits until done says so.
func (c *client) until(what string, most time.Duration, done func() (bool, error), poll func(set []unix.PollFd) []unix.PollFd) error {
	began := c.clock.Monotonic()
	end := min(began+most, c.deadline)
	for {
		if finished, err := done(); finished || err != nil {
			return err
		}
		switch now := c.clock.Monotonic(); {
		case c.Stop():
			return tool.ErrStopped
		case now >= end:
			return fmt.Errorf("%s: not within %.1f s", what, (now - began).Seconds())
		default:
			c.set = poll(c.set[:0])
			wait(c.set, min(slice, end-now))
		}
	}
}

// connect opens connections and waits for them.
func (c *client) connect(number int) (all []*connection, err error) {
	defer func() {
		if err != nil {
			for _, one := range all {
				one.socket.Close()
			}
			all = nil
		}
	}()
	for range number {
		socket, err := dial(c.To)
		if err != nil {
			return all, c.unreachable(err)
		}
		all = append(all, &connection{socket: socket})
	}
	open := 0
	err = c.until(fmt.Sprintf("no connection to %s", c.To), c.Timeout, func() (bool, error) {
		for open < len(all) {
			set := []unix.PollFd{{Fd: int32(all[open].socket.Number()), Events: unix.POLLOUT}}
			if wait(set, 0); set[0].Revents == 0 {
				return false, nil
			}
			if err := connected(&all[open].socket); err != nil {
				return false, c.unreachable(err)
			}
			open++
		}
		return true, nil
	}, func(set []unix.PollFd) []unix.PollFd {
		return append(set, unix.PollFd{Fd: int32(all[open].socket.Number()), Events: unix.POLLOUT})
	})
	return all, err
}

func (c *client) unreachable(err error) error {
	if errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("%s refuses the connection: %w; start a monitor there with \"bandwidth_server\"", c.To, ErrRefused)
	}
	return fmt.Errorf("connect to %s: %w", c.To, err)
}

// listen takes what has come on the control connection.
func (c *client) listen() {
	for c.gone == nil {
		m, whole, err := c.control.receive()
		switch {
		case errors.Is(err, errGarbage), whole && m.version == version && m.nonce != c.agreed.nonce:
			c.gone = errNoServer(c.To)
		case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
			c.gone = fmt.Errorf("%s closed the connection", c.To)
		case err != nil:
			c.gone = fmt.Errorf("%s: %w", c.To, err)
		case whole && m.version != version:
			c.gone = errVersion(c.To, m.version)
		case whole:
			c.answers = append(c.answers, m)
			if len(c.answers) > 2 {
				c.gone = errNoServer(c.To)
			}
			continue
		default:
			return
		}
	}
}

// hear waits for the server's next message.
func (c *client) hear(most time.Duration) (m message, err error) {
	err = c.until(fmt.Sprintf("no answer from %s", c.To), most, func() (bool, error) {
		if c.listen(); len(c.answers) > 0 {
			m, c.answers = c.answers[0], c.answers[1:]
			return true, nil
		}
		return false, c.gone
	}, c.pollControl)
	return m, err
}

func (c *client) pollControl(set []unix.PollFd) []unix.PollFd {
	return append(set, unix.PollFd{Fd: int32(c.control.socket.Number()), Events: unix.POLLIN})
}

// agree asks the server for a test.
func (c *client) agree() error {
	if c.Stop() {
		return tool.ErrStopped
	}
	all, err := c.connect(1)
	if err != nil {
		return err
	}
	c.control.socket = all[0].socket
	ask := message{kind: kindAsk, connections: uint8(c.Connections), duration: c.Duration, bytes: c.Bytes}
	for _, d := range c.Directions {
		if d == tool.Transmit {
			ask.directions |= bitTransmit
		} else {
			ask.directions |= bitReceive
		}
	}
	if _, err := unix.Getrandom(ask.nonce[:], 0); err != nil {
		return fmt.Errorf("no random number for the test: %w", err)
	}
	ask = ask.limited()
	c.agreed.nonce = ask.nonce
	if err := c.control.send(ask); err != nil {
		return fmt.Errorf("%s: %w", c.To, err)
	}
	answer, err := c.hear(c.Timeout)
	switch {
	case err != nil:
		return err
	case answer.kind != kindAnswer:
		return errNoServer(c.To)
	case answer.code == codeBusy:
		return errBusy(c.To, answer.rtt)
	case answer.code != codeAgreed, answer.connections == 0, answer.duration == 0, answer.bytes == 0:
		return errNoServer(c.To)
	}
	// The server may allow less, never more.
	c.agreed = ask
	c.agreed.duration, c.agreed.bytes = min(ask.duration, answer.duration), min(ask.bytes, answer.bytes)
	c.agreed.connections = min(ask.connections, answer.connections)
	return nil
}

// measure runs one direction.
func (c *client) measure(r *tool.Result) error {
	sends := r.Direction == tool.Transmit
	connections, err := c.connect(int(c.agreed.connections))
	if err != nil {
		return err
	}
	r.Parallel = len(connections)
	f := newFlow(c.clock, sends, connections, c.agreed.duration, c.agreed.bytes)
	defer f.close()
	hello := message{kind: kindData, nonce: c.agreed.nonce, directions: bitReceive}
	if sends {
		hello.directions = bitTransmit
	}
	for i, one := range connections {
		hello.index = uint8(i)
		b := hello.encode()
		n, err := send(&one.socket, b[:])
		if err == nil && n < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("%s: the connection broke: %w", c.To, err)
		}
	}
	err = c.until("the test did not end", c.Timeout, func() (bool, error) {
		f.turn()
		c.listen()
		switch {
		case f.err != nil && c.gone != nil, f.err == nil && c.gone != nil && len(c.answers) == 0 && !f.over:
			return false, fmt.Errorf("the test ended early: %w", c.gone)
		case f.err != nil:
			return false, fmt.Errorf("%s: %w", c.To, f.err)
		}
		return f.over, nil
	}, func(set []unix.PollFd) []unix.PollFd { return c.pollControl(f.poll(set)) })
	if err != nil {
		return err
	}
	f.close() // which tells the sender that everything came
	theirs, err := c.hear(f.duration + silence)
	if err != nil {
		return fmt.Errorf("the test ended early: %w", err)
	}
	return c.judge(r, f, theirs)
}

// judge makes the result of what both ends saw.
func (c *client) judge(r *tool.Result, f *flow, theirs message) error {
	if theirs.kind != kindResult {
		return errNoServer(c.To)
	}
	if theirs.code != codeAgreed {
		return fmt.Errorf("the test ended early: %s gave up", c.To)
	}
	ours := message{bytes: f.bytes, duration: f.lasted(), resent: f.resent, rtt: f.rtt}
	sender, receiver := ours, theirs
	if !f.sends {
		sender, receiver = theirs, ours
	}
	if receiver.bytes > sender.bytes {
		return errNoServer(c.To)
	}
	if receiver.bytes == 0 {
		return fmt.Errorf("nothing arrived in %.1f s", f.duration.Seconds())
	}
	r.Bytes, r.Resent = tool.Known(receiver.bytes), tool.Known(sender.resent)
	if sender.rtt > 0 {
		r.RTT = tool.Known(sender.rtt.Seconds())
	}
	rate := func(m message) *float64 {
		if m.duration < leastFigure {
			return nil
		}
		return tool.Known(float64(m.bytes) / m.duration.Seconds())
	}
	r.Sender, r.Receiver = rate(sender), rate(receiver)
	if r.Receiver == nil {
		within := "at once"
		if receiver.duration > 0 {
			within = fmt.Sprintf("within %.3f ms", receiver.duration.Seconds()*1000)
		}
		return fmt.Errorf("%d bytes arrived %s, which is too little for a rate; ask for more bytes or seconds", receiver.bytes, within)
	}
	if r.Sender == nil {
		r.Lacking = map[string]string{"sender_bytes_per_second": "the sender's buffers took everything at once"}
	}
	r.Seconds = tool.Known(receiver.duration.Seconds())
	return nil
}
