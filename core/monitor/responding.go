package monitor

// responder answers the UDP echoes of other monitors.
type responder struct{ trouble string }

func (r *responder) problem() string { return r.trouble }
