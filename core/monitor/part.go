package monitor

import "time"

// part fills sections of the document from a source of its own, beside the files that a sample reads together. Its methods but
// close and ended are called with the lock of sampling held, so they must be quick: what may take longer than some 100 µs, or may
// wait for a device, is read by a goroutine of the part, and fill copies what that published last.
type part interface {
	// fill writes the part's sections into a sample that is being made, and says how much memory they take in the history.
	fill(d *document, now *occasion) (bytes int)
	// remember is called after a sample of the loop: what was filled last is what windows of later samples may begin with.
	remember(reading uint64)
	// problems are what health tells of.
	problems() []string
	// close ends what the part started. It does not wait.
	close()
	// ended tells whether all that close ended has ended.
	ended() bool
}

// occasion is what a part needs to know of the sample it fills.
type occasion struct {
	moment
	reading  uint64        // number of the reading
	base     *record       // where the window begins, nil for none; base.reading is a number that remember was told
	window   time.Duration // 0 without a base
	topology *topology     // nil where links are not read
}

// newParts makes the parts that the configuration asks for.
func (m *Monitor) newParts() (parts []part) {
	if m.config.Sources&Interfaces != 0 {
		m.fine = newFineSampling(m)
		parts = append(parts, m.fine)
	}
	if m.config.Sources&Peers != 0 {
		m.peers = m.newPeersPart()
		parts = append(parts, m.peers)
	}
	if m.config.Sources&Collectives != 0 {
		m.collectives = newCollectives(m)
		parts = append(parts, m.collectives)
	}
	parts = append(parts, m.hardwareParts()...)
	parts = append(parts, m.exercises)
	m.phases = newPhases(m)
	parts = append(parts, m.phases)
	return append(parts, newTransportPart(m)) // the last: it tells of what others found
}
