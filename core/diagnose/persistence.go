package diagnose

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"

	"netmon/core/sample"
)

// suspect is what one view gives reason to say.
type suspect struct {
	class, severity       string
	host, peer, direction string
	interfaceName         string
	rank                  *int64
	confidence            float64
	needs                 int // hits to be reported, 0 for hitsToReport
	evidence              map[string]float64
	advice, text          string

	// Of what it was made, to decide between classes.
	floor, rtt, delivery, ratio float64
	probed                      bool
	ends                        []string // the other ends of the ways it was made of, of a slow link
}

// key is what makes two suspects the same. Views may differ in the direction, which the votes of several tell.
type key struct{ class, host string }

func (x *suspect) hitsNeeded() int {
	if x.needs > 0 {
		return x.needs
	}
	return hitsToReport
}

func (x *suspect) key() key { return key{x.class, x.host} }

// persistence lets a suspect become a finding when it stays, and ends a finding when it does not.
type persistence struct{ held map[key]*holding }

// holding is one that is suspected, or reported.
type holding struct {
	newest   suspect // of the direction that most views say, the newer ones counting more
	said     map[string]*vote
	hits     uint // of the last views that could show it, the newest in the lowest bit
	onset    float64
	lastSeen float64
	reported bool
}

type vote struct {
	newest suspect
	weight float64
}

// hit takes what a view says.
func (h *holding) hit(at float64, x suspect) {
	h.hits = h.hits<<1 | 1
	h.lastSeen = at
	if h.said == nil {
		h.said = make(map[string]*vote, 1)
	}
	for _, v := range h.said {
		v.weight *= voteMemory
	}
	v := h.said[x.direction]
	if v == nil {
		v = &vote{}
		h.said[x.direction] = v
	}
	v.newest, v.weight = x, v.weight+1
	most, held := v, h.said[h.newest.direction]
	for _, other := range h.said {
		if other.weight > most.weight {
			most = other
		}
	}
	// Who was told one direction is told another only if much speaks for it.
	if h.reported && held != nil && most.weight < votesToChange*held.weight {
		most = held
	}
	h.newest = most.newest
}

const hitsMask = 1<<viewsToJudge - 1

func (h *holding) count() int { return bits.OnesCount(h.hits & hitsMask) }

// update takes what a view at a time gave reason to suspect, and says what is reported.
func (p *persistence) update(at float64, suspects []suspect, measurable func(key) bool) []sample.Finding {
	if p.held == nil {
		p.held = make(map[key]*holding)
	}
	seen := make(map[key]bool, len(suspects))
	for _, x := range suspects {
		k := x.key()
		if seen[k] {
			continue
		}
		seen[k] = true
		h := p.held[k]
		if h == nil {
			if len(p.held) >= mostHeld {
				continue
			}
			h = &holding{onset: at}
			p.held[k] = h
		}
		h.hit(at, x)
	}
	for k, h := range p.held {
		if !seen[k] && measurable(k) {
			h.hits <<= 1
		}
		switch n := h.count(); {
		case n == 0, at-h.lastSeen > silentSeconds, h.reported && h.hits&(1<<missesToEnd-1) == 0:
			delete(p.held, k)
		case n >= h.newest.hitsNeeded():
			h.reported = true
		}
	}
	p.settle()
	return p.findings()
}

// settle drops what another says better: who it is has become known since.
func (p *persistence) settle() {
	for k, h := range p.held {
		if h.newest.peer == "" {
			continue
		}
		for other, sure := range p.held {
			if sure.reported && other != k && other.class == k.class && sure.newest.peer == "" &&
				(other.host == h.newest.peer || other.host == k.host) {
				sure.onset = min(sure.onset, h.onset)
				delete(p.held, k)
				break
			}
		}
	}
}

// reports tells whether a class is reported of a host, and was seen of late.
func (p *persistence) reports(class, host string) bool {
	for k, h := range p.held {
		if h.reported && h.hits&(1<<recentViews-1) != 0 && k.class == class && (k.host == host || h.newest.peer == host) {
			return true
		}
	}
	return false
}

// setBack moves what is remembered to a clock that was set back.
func (p *persistence) setBack(at float64) {
	for _, h := range p.held {
		h.onset, h.lastSeen = min(h.onset, at), min(h.lastSeen, at)
	}
}

func severityRank(severity string) int {
	return slices.Index([]string{Critical, Warning, Info}, severity)
}

func (p *persistence) findings() []sample.Finding {
	found := make([]sample.Finding, 0, len(p.held))
	for _, k := range slices.SortedFunc(maps.Keys(p.held), func(a, b key) int {
		x, y := &p.held[a].newest, &p.held[b].newest
		return cmp.Or(cmp.Compare(severityRank(x.severity), severityRank(y.severity)), cmp.Compare(y.confidence, x.confidence),
			cmp.Compare(a.class, b.class), cmp.Compare(a.host, b.host))
	}) {
		if h := p.held[k]; h.reported && len(found) < mostTold {
			found = append(found, h.newest.finding(h.onset))
		}
	}
	return found
}

func (x *suspect) finding(onset float64) sample.Finding {
	known := func(text string) *string {
		if text == "" {
			return nil
		}
		return &text
	}
	return sample.Finding{
		Class: x.class, Severity: x.severity, Host: known(x.host), Rank: x.rank, Interface: known(x.interfaceName), Peer: known(x.peer),
		Direction: known(x.direction), OnsetSeconds: onset, Confidence: x.confidence, Evidence: maps.Clone(x.evidence),
		Advice: x.advice, Text: x.text,
	}
}
