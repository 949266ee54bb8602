//go:build !linux

package kernelfs

import "errors"

// File is a kernel file kept open; this system has none.
type File struct{}

// Open returns errors.ErrUnsupported.
func Open(string) (*File, error) { return nil, errors.ErrUnsupported }

// Path is empty.
func (f *File) Path() string { return "" }

// Read returns errors.ErrUnsupported.
func (f *File) Read(buf []byte) ([]byte, error) { return buf, errors.ErrUnsupported }

// ReadRecord returns errors.ErrUnsupported.
func (f *File) ReadRecord(buf []byte) ([]byte, error) { return buf, errors.ErrUnsupported }

// ReadHead returns errors.ErrUnsupported.
func (f *File) ReadHead(buf []byte, _ int) ([]byte, error) { return buf, errors.ErrUnsupported }

// Close does nothing.
func (f *File) Close() {}
