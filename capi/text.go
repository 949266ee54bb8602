package main

/*
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"sync/atomic"
	"unsafe"
)

var errNoMemory = errors.New("no memory for the answer")

// cText collects text in memory of the C library, which the caller frees. It is an io.Writer.
type cText struct {
	// usual is the size of the last text of this kind, so that the next one is allocated in one piece; nil where a text is
	// written at once.
	usual            *atomic.Int64
	memory           unsafe.Pointer
	length, capacity int
}

// Write implements io.Writer.
// Errors: errNoMemory.
func (t *cText) Write(text []byte) (int, error) {
	if err := t.reserve(len(text) + 1); err != nil { // and the zero byte
		return 0, err
	}
	copy(unsafe.Slice((*byte)(t.memory), t.capacity)[t.length:], text)
	t.length += len(text)
	return len(text), nil
}

func (t *cText) reserve(more int) error {
	if t.length+more <= t.capacity {
		return nil
	}
	capacity := max(2*t.capacity, t.length+more)
	if t.memory == nil && t.usual != nil {
		const least, slack = 4096, 256
		capacity = max(capacity, least, min(int(t.usual.Load())+slack, 1<<20))
	}
	memory := C.realloc(t.memory, C.size_t(capacity))
	if memory == nil {
		return errNoMemory
	}
	t.memory, t.capacity = memory, capacity
	return nil
}

// hand ends the text and gives it away.
func (t *cText) hand() (*C.char, error) {
	if err := t.reserve(1); err != nil {
		return nil, err
	}
	unsafe.Slice((*byte)(t.memory), t.capacity)[t.length] = 0
	if t.usual != nil {
		t.usual.Store(int64(t.length))
	}
	text := (*C.char)(t.memory)
	t.memory, t.length, t.capacity = nil, 0, 0
	return text, nil
}

// free frees a text that was not given away.
func (t *cText) free() {
	C.free(t.memory)
	t.memory, t.length, t.capacity = nil, 0, 0
}
