package kernelfs

import (
	"bytes"
	"errors"
)

// ErrNumber means that a field which should be a counter is not a whole number below 2^64.
var ErrNumber = errors.New("not a whole number from 0 to 18446744073709551615")

// Field returns the next field of line, which blanks and tabs separate, and what follows it. The field is empty at the end.
func Field(line []byte) (field, rest []byte) {
	start := 0
	for start < len(line) && (line[start] == ' ' || line[start] == '\t') {
		start++
	}
	end := start
	for end < len(line) && line[end] != ' ' && line[end] != '\t' {
		end++
	}
	return line[start:end], line[end:]
}

// Uint returns the next field of line as a number, and what follows it.
// Errors: ErrNumber, also where the line has no further field.
func Uint(line []byte) (value uint64, rest []byte, err error) {
	i := 0
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	start := i
	for ; i < len(line); i++ {
		digit := line[i] - '0'
		if digit > 9 {
			break
		}
		if value > (1<<64-1)/10 || value == (1<<64-1)/10 && digit > 5 {
			return 0, line, ErrNumber
		}
		value = value*10 + uint64(digit)
	}
	if i == start || i < len(line) && line[i] != ' ' && line[i] != '\t' {
		return 0, line, ErrNumber
	}
	return value, line[i:], nil
}

// Line returns the first line of text without its newline, and the text after it.
func Line(text []byte) (line, rest []byte) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return text[:i], text[i+1:]
	}
	return text, nil
}
