package transport

import (
	"strconv"
	"strings"
)

// Filter is a list of names as NCCL_IB_HCA and NCCL_SOCKET_IFNAME hold it.
//
// Source: NCCL's "Environment Variables" and its parseStringList and matchIfList (src/misc/utils.cc): a leading ^ excludes what the
// list names, then a leading = makes names of the prefixes that they are else; names are separated by commas, and one may be
// followed by :port. A port that is no number is 0.
type Filter struct {
	exclude, exact bool
	entries        []filterEntry
}

type filterEntry struct {
	name string
	port int // anyPort for any
}

const anyPort = -1

// ParseFilter reads a list. Every text is one.
func ParseFilter(text string) (f Filter) {
	text, f.exclude = strings.CutPrefix(text, "^")
	text, f.exact = strings.CutPrefix(text, "=")
	for word := range strings.SplitSeq(text, ",") {
		name, port, hasPort := strings.Cut(word, ":")
		if name == "" {
			continue
		}
		entry := filterEntry{name: name, port: anyPort}
		if hasPort {
			entry.port = leadingNumber(port)
		}
		f.entries = append(f.entries, entry)
	}
	return f
}

// leadingNumber is what C's atoi makes of a text.
func leadingNumber(text string) int {
	text = strings.TrimLeft(text, " \t\n\v\f\r")
	end := 0
	for end < len(text) && (text[end] >= '0' && text[end] <= '9' || end == 0 && (text[0] == '-' || text[0] == '+')) {
		end++
	}
	number, err := strconv.ParseInt(text[:end], 10, 32)
	if err != nil {
		return 0
	}
	return int(number)
}

// Accepts tells whether NCCL takes a device's port; interfaces have none, which anyPort says.
func (f Filter) Accepts(name string, port int) bool {
	return f.lists(name, port) != f.exclude
}

// lists tells whether the list names it. An empty list names all.
func (f Filter) lists(name string, port int) bool {
	if len(f.entries) == 0 {
		return true
	}
	for _, e := range f.entries {
		named := strings.HasPrefix(name, e.name)
		if f.exact {
			named = name == e.name
		}
		if named && (port == anyPort || e.port == anyPort || port == e.port) {
			return true
		}
	}
	return false
}
