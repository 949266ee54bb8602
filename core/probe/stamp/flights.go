package stamp

// Flight is a probe under way.
type Flight struct {
	Token  uint64
	To     Address
	Before Moment // read just before sending
	Sent   Time   // the kernel's stamp of it, 0 while there is none
	Key    Key    // under which the stamp will come
	Socket int    // that it was sent by
	Check  uint64 // what else its answer has to repeat
}

// Flights are the probes under way, by the sequence number their packets carry. The zero value is ready.
type Flights struct {
	bySequence map[uint64]Flight
	sequences  map[uint64]uint64 // by token
}

// Len is how many there are.
func (f *Flights) Len() int { return len(f.bySequence) }

// Add notes one.
func (f *Flights) Add(sequence uint64, flight Flight) {
	if f.bySequence == nil {
		f.bySequence, f.sequences = make(map[uint64]Flight), make(map[uint64]uint64)
	}
	f.bySequence[sequence] = flight
	f.sequences[flight.Token] = sequence
}

// Get returns the one with this sequence number.
func (f *Flights) Get(sequence uint64) (Flight, bool) {
	flight, found := f.bySequence[sequence]
	return flight, found
}

// Remove ends the one with this sequence number.
func (f *Flights) Remove(sequence uint64) {
	if flight, found := f.bySequence[sequence]; found {
		delete(f.bySequence, sequence)
		delete(f.sequences, flight.Token)
	}
}

// Forget ends the one with this token.
func (f *Flights) Forget(token uint64) {
	if sequence, found := f.sequences[token]; found {
		delete(f.sequences, token)
		delete(f.bySequence, sequence)
	}
}

// Stamp notes when the kernel sent what it stamps with key. That is late only where the packet had to wait for the address of the
// next hop on the link, so it looks at all of them.
func (f *Flights) Stamp(socket int, key Key, sent Time) {
	for sequence, flight := range f.bySequence {
		if flight.Socket == socket && flight.Key == key && flight.Sent == 0 {
			flight.Sent = sent
			f.bySequence[sequence] = flight
			return
		}
	}
}

// Oldest finds the first one sent by this socket to this address.
func (f *Flights) Oldest(socket int, to Address) (sequence uint64, found bool) {
	for s, flight := range f.bySequence {
		if flight.Socket == socket && flight.To == to && (!found || s < sequence) {
			sequence, found = s, true
		}
	}
	return sequence, found
}

// Drop ends all that were sent by this socket, and hands out their tokens.
func (f *Flights) Drop(socket int, yield func(token uint64)) {
	for sequence, flight := range f.bySequence {
		if flight.Socket == socket {
			f.Remove(sequence)
			yield(flight.Token)
		}
	}
}
