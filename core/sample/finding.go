package sample

// Finding names one thing that holds the job up, or says that nothing does.
//
// Classes: "slow_link", "lossy_link", "high_latency", "slow_host", "stalled_rank", "wrong_interface", "network_clean".
type Finding struct {
	Class     string  `json:"class"`
	Severity  string  `json:"severity"` // "info", "warning", "critical"
	Host      *string `json:"host"`     // whose link, or which host
	Rank      *int64  `json:"rank"`
	Interface *string `json:"interface"`
	Peer      *string `json:"peer"`
	Direction *string `json:"direction"` // "transmit" or "receive", of the host
	// OnsetSeconds is the wall time at which it was first seen, without a break since.
	OnsetSeconds float64            `json:"onset_seconds"`
	Confidence   float64            `json:"confidence"` // 0 to 1
	Evidence     map[string]float64 `json:"evidence"`   // numbers by name and unit
	Advice       string             `json:"advice"`
	Text         string             `json:"text"`
}
