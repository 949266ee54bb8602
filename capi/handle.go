package main

import (
	"sync"

	"netmon/core/monitor"
)

// monitors are the open ones by handle. Handles are issued by the C half and never used twice.
var monitors = handleTable{open: make(map[uint64]*monitor.Monitor)}

// handleTable maps handles to monitors. Safe for concurrent use.
type handleTable struct {
	mu   sync.RWMutex
	open map[uint64]*monitor.Monitor
}

func (t *handleTable) put(id uint64, m *monitor.Monitor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[id] = m
}

func (t *handleTable) get(id uint64) *monitor.Monitor {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.open[id]
}

// take removes a monitor from the table.
func (t *handleTable) take(id uint64) *monitor.Monitor {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.open[id]
	delete(t.open, id)
	return m
}
