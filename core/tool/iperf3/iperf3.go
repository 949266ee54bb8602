// Package iperf3 knows how iperf3 is called as a client, and what its JSON says: the receiver's figure of a TCP test.
//
// Source: iperf3(1), tested with 3.12. It runs nothing itself. The sender's round trip is told where this host sends; where it
// receives, iperf3 does not pass the server's on.
package iperf3

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/goccy/go-json"

	"netmon/core/tool"
)

// Name is the program's.
const Name = "iperf3"

// Options are those of a test with the server that somebody named.
type Options struct {
	Host      string // address or name
	Port      uint16
	Direction tool.Direction
	Seconds   int
	Parallel  int
	Connect   time.Duration // how long to try to reach the server
}

// Arguments are the program's, its name first.
func Arguments(o Options) []string {
	arguments := []string{
		Name, "--client", o.Host, "--port", strconv.Itoa(int(o.Port)), "--time", strconv.Itoa(o.Seconds),
		"--parallel", strconv.Itoa(o.Parallel), "--connect-timeout", strconv.FormatInt(o.Connect.Milliseconds(), 10), "--json",
	}
	if o.Direction == tool.Receive {
		arguments = append(arguments, "--reverse")
	}
	return arguments
}

// document is what is read of the program's JSON. Numbers are real ones: it writes large counts in scientific notation.
type document struct {
	Start struct {
		TestStart struct {
			Protocol *string `json:"protocol"`
			Reverse  *int    `json:"reverse"`
		} `json:"test_start"`
	} `json:"start"`
	End struct {
		Streams []struct {
			Sender struct {
				MeanRTT *float64 `json:"mean_rtt"` // µs
			} `json:"sender"`
		} `json:"streams"`
		Sent     *sum `json:"sum_sent"`
		Received *sum `json:"sum_received"`
	} `json:"end"`
	Error string `json:"error"`
}

type sum struct {
	Seconds     *float64 `json:"seconds"`
	Bytes       *float64 `json:"bytes"`
	Retransmits *float64 `json:"retransmits"`
}

// rate is that of a sum, nil where it says none.
func (s *sum) rate() *float64 {
	if s == nil || s.Seconds == nil || *s.Seconds <= 0 || s.Bytes == nil || *s.Bytes < 0 {
		return nil
	}
	rate := *s.Bytes / *s.Seconds
	if math.IsInf(rate, 0) || math.IsNaN(rate) {
		return nil
	}
	return &rate
}

// count is a number as a count, nil where it cannot be one.
func count(number *float64) *uint64 {
	if number == nil || *number < 0 || *number >= 1<<63 || *number != math.Trunc(*number) {
		return nil
	}
	return tool.Known(uint64(*number))
}

var errNoResult = errors.New("no receiver's figure is in it")

// Result is what the program's output says of a test in a direction. Its Err is a sentence.
func Result(out tool.Output, direction tool.Direction) (r tool.Result) {
	r.Direction = direction
	var d document
	if err := json.Unmarshal(out.Text, &d); err != nil {
		r.Err = tool.NotUnderstood(Name, out, "no JSON of iperf3")
		return r
	}
	if d.Error != "" { // its exit status may be 0 then
		r.Err = tool.Failure(Name, out, tool.OneLine([]byte(d.Error)))
		return r
	}
	received := d.End.Received.rate()
	if received == nil || count(d.End.Received.Bytes) == nil || *received == 0 {
		r.Err = tool.NotUnderstood(Name, out, errNoResult.Error())
		return r
	}
	r.Seconds, r.Bytes, r.Receiver, r.Sender = d.End.Received.Seconds, count(d.End.Received.Bytes), received, d.End.Sent.rate()
	r.Parallel = len(d.End.Streams)
	r.Lacking = map[string]string{
		"sender_bytes_per_second": "iperf3 did not tell", "segments_retransmitted": "iperf3 did not tell: the sender's system may not count them",
		"rtt_seconds": "iperf3 tells that of the end it runs on, where that sends",
	}
	if d.End.Sent != nil {
		r.Resent = count(d.End.Sent.Retransmits)
	}
	sum, known := 0.0, 0
	for _, s := range d.End.Streams {
		if rtt := s.Sender.MeanRTT; rtt != nil && *rtt > 0 {
			sum += *rtt / 1e6
			known++
		}
	}
	if rtt := sum / float64(known); known > 0 && !math.IsInf(rtt, 0) {
		r.RTT = &rtt
	}
	return r
}
