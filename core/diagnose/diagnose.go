// Package diagnose says what holds a training job up, and that nothing does: findings, each with its culprit, its evidence in
// numbers, since when, how sure, and what to do.
//
// It is pure: it reads no clock, no file and no network. Job judges views of the whole job (package cluster), Local what one
// process sees of its own ways. What either must remember of views or samples before is in a State, which the caller keeps; the
// same calls with a new State give the same findings. All that is not known is left out: no finding rests on a number that nobody
// measured, and no evidence is made up. docs/findings.md describes each class.
//
// Package collective's durations hold the waiting for the last rank and TCP's estimates are those of one socket, so no finding is made
// of one number alone: a culprit is the common end of the ways that are bad while those among the others are not.
package diagnose

// Classes of findings.
const (
	SlowLink       = "slow_link"
	LossyLink      = "lossy_link"
	HighLatency    = "high_latency"
	SlowHost       = "slow_host"
	StalledRank    = "stalled_rank"
	WrongInterface = "wrong_interface"
	NetworkClean   = "network_clean"
)

// Severities of findings.
const (
	Info     = "info"
	Warning  = "warning"
	Critical = "critical"
)

// Directions, of a host.
const (
	Transmit = "transmit"
	Receive  = "receive"
)
