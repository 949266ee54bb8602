//go:build !linux

package monitor

func isExhausted(error) bool { return false }
