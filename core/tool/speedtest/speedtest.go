// Package speedtest knows how speedtest-cli is called and what its JSON says: rates from and to a server on the internet that it
// chooses, over HTTP.
//
// Source: speedtest-cli 2.1 (--help, and the results of its --json). It runs nothing itself. Only the JSON is read, which counts
// bits a second; the words of --simple change their unit. What is received is timed here, at the receiver; what is sent is timed here
// too, at the sender, so that there is no receiver's figure for it.
package speedtest

import (
	"math"
	"slices"

	"github.com/goccy/go-json"

	"netmon/core/tool"
)

// Name is the program's.
const Name = "speedtest-cli"

// Arguments are the program's, its name first. server is the number of one of its list, "" for its choice.
func Arguments(directions []tool.Direction, server string) []string {
	arguments := []string{Name, "--json"}
	if !slices.Contains(directions, tool.Receive) {
		arguments = append(arguments, "--no-download")
	}
	if !slices.Contains(directions, tool.Transmit) {
		arguments = append(arguments, "--no-upload")
	}
	if server != "" {
		arguments = append(arguments, "--server", server)
	}
	return arguments
}

// document is what is read of the program's JSON.
type document struct {
	Download *float64 `json:"download"` // bits/s
	Upload   *float64 `json:"upload"`   // bits/s
	Ping     *float64 `json:"ping"`     // ms
	Sent     *float64 `json:"bytes_sent"`
	Received *float64 `json:"bytes_received"`
	Server   struct {
		Host string `json:"host"`
	} `json:"server"`
}

// Results is what the program's output says: a result for each direction. Their Err are sentences.
func Results(out tool.Output, directions []tool.Direction) []tool.Result {
	results := make([]tool.Result, len(directions))
	var d document
	err := json.Unmarshal(out.Text, &d)
	for i, direction := range directions {
		r := &results[i]
		r.Direction = direction
		bits, bytes := d.Download, d.Received
		if direction == tool.Transmit {
			bits, bytes = d.Upload, d.Sent
		}
		switch {
		case err != nil:
			r.Err = tool.NotUnderstood(Name, out, "no JSON of speedtest-cli")
			continue
		case out.Exit.Status != 0 || out.Exit.Signal != 0:
			r.Err = tool.Failure(Name, out, "")
			continue
		case bits == nil || !(*bits > 0) || math.IsInf(*bits, 0):
			r.Err = tool.NotUnderstood(Name, out, "no rate of this direction is in it")
			continue
		}
		const notTold = "speedtest-cli does not tell"
		r.Lacking = map[string]string{
			"parallel": notTold, "seconds": notTold, "bytes": notTold, "segments_retransmitted": notTold, "rtt_seconds": notTold,
			"sender_bytes_per_second":   "speedtest-cli times what arrives",
			"receiver_bytes_per_second": "speedtest-cli times what it sends, not what arrives",
		}
		rate := *bits / 8
		if r.Target = tool.OneLine([]byte(d.Server.Host)); direction == tool.Transmit {
			r.Sender = &rate
		} else {
			r.Receiver = &rate
		}
		if bytes != nil && *bytes > 0 && *bytes < 1<<63 {
			r.Bytes = tool.Known(uint64(*bytes))
		}
		if d.Ping != nil && *d.Ping > 0 && !math.IsInf(*d.Ping, 0) {
			r.RTT = tool.Known(*d.Ping / 1000)
		}
	}
	return results
}
