// Command replay reads views of a job that a campaign recorded, one JSON object a line, and prints what would be found in them now,
// one JSON object a line: so that thresholds can be tried without faults. Each aggregator's views have a memory of their own, as
// in the job.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"

	"github.com/goccy/go-json"

	"netmon/core/cluster"
	"netmon/core/diagnose"
)

func main() {
	if err := replay(); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

// tellPending mends a view that was recorded before views said who tells what is under way: in a campaign, all do.
func tellPending(v *cluster.View) {
	for i := range v.Ranks {
		count := uint64(0)
		if v.Ranks[i].PendingSeconds != nil {
			count = 1
		}
		v.Ranks[i].PendingCount = &count
	}
}

func replay() error {
	type line struct {
		Job  int           `json:"job"`
		View *cluster.View `json:"view"`
	}
	type memory struct {
		job        int
		aggregator int64
	}
	states := make(map[memory]*diagnose.State)
	out := bufio.NewWriter(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 8<<20)
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return err
		}
		if !bytes.Contains(in.Bytes(), []byte(`"pending_count"`)) {
			tellPending(l.View)
		}
		of := memory{job: l.Job, aggregator: -1}
		if l.View.Aggregator != nil {
			of.aggregator = *l.View.Aggregator
		}
		if states[of] == nil {
			states[of] = new(diagnose.State)
		}
		text, err := json.Marshal(diagnose.Job(l.View, states[of]))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n", text)
	}
	if err := in.Err(); err != nil {
		return err
	}
	return out.Flush()
}
