package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-json"

	"netmon/core/alert"
	"netmon/core/job"
	"netmon/core/link"
	"netmon/core/probe"
	"netmon/core/tool/throughput"
	"netmon/core/units"
)

// Section is one part of the sample document that can be chosen with the configuration key "sources".
type Section uint16

// The sections that can be chosen.
const (
	Interfaces Section = 1 << iota
	TCP
	UDP
	IP
	Sockets
	Probes
	Peers
	RDMA
	Collectives
	PCIe
	NVLink

	allSections = NVLink<<1 - 1

	// segments is no section: it has the file read that counts TCP's segments, and none beside it.
	segments Section = 1 << 15
)

func sectionNames() []string {
	return []string{"interfaces", "tcp", "udp", "ip", "sockets", "probes", "peers", "rdma", "collectives", "pcie", "nvlink"}
}

// Config says how a monitor works. Make one with ParseConfig or DefaultConfig.
type Config struct {
	Interval      time.Duration  // between two samples of the loop
	Targets       []probe.Target // whom to probe beside the training peers
	ProbeInterval time.Duration  // between two probes of one target
	ProbeTimeout  time.Duration  // a probe without an answer is lost after it
	Responder     netip.AddrPort // where UDP echoes are answered, invalid for nowhere
	Bandwidth     netip.AddrPort // where other monitors' bandwidth tests are served, invalid for nowhere
	Interfaces    []string       // patterns of the interfaces that count in totals; empty: by kind
	Sources       Section
	Alerts        []alert.Rule
	Job           job.Identity      // what the configuration says of the job
	Variables     map[string]string // environment variables handed over; nil: the process's own
	// ClusterInterval is the time between two digests, as others are told.
	ClusterInterval time.Duration
}

// DefaultConfig is what an empty configuration means.
func DefaultConfig() Config {
	return Config{Interval: time.Second, ProbeInterval: time.Second, ProbeTimeout: time.Second, Sources: allSections,
		ClusterInterval: 2 * time.Second}
}

// Limits of the configuration.
const (
	MaxConfigBytes = 1 << 20
	minInterval    = 0.01
	maxInterval    = 3600
	maxPatterns    = 256
	maxPeers       = 1 << 16

	maxProbeInterval = 3600 * time.Second

	leastClusterInterval = 100 * time.Millisecond
	mostClusterInterval  = 3600 * time.Second
)

// TextError is something wrong in a text the caller gave. Its message says what, where, and what would be right.
type TextError struct {
	What string // "configuration", "job" or "request"
	Key  string // "" when the text as a whole is wrong
	Text string
}

func (e *TextError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s: %s", e.What, e.Text)
	}
	return fmt.Sprintf("%s key %q %s", e.What, e.Key, e.Text)
}

// ParseConfig reads a configuration. Empty text means all defaults.
// Errors: *TextError.
func ParseConfig(text []byte) (Config, error) {
	config := DefaultConfig()
	d := decoder{what: "configuration", example: `{"interval_seconds": 1}`}
	err := d.object(text, MaxConfigBytes, map[string]func(key string, value []byte) error{
		"interval_seconds": func(key string, value []byte) error {
			seconds, err := d.number(key, value, minInterval, maxInterval, "seconds")
			config.Interval = units.Duration(seconds)
			return err
		},
		"targets": func(key string, value []byte) (err error) {
			config.Targets, err = d.targets(key, value)
			return err
		},
		"probe_interval_seconds": func(key string, value []byte) (err error) {
			config.ProbeInterval, err = d.duration(key, value, probe.LeastInterval, maxProbeInterval)
			return err
		},
		"probe_timeout_seconds": func(key string, value []byte) (err error) {
			config.ProbeTimeout, err = d.duration(key, value, probe.LeastTimeout, probe.MostTimeout)
			return err
		},
		"cluster_interval_seconds": func(key string, value []byte) (err error) {
			config.ClusterInterval, err = d.duration(key, value, leastClusterInterval, mostClusterInterval)
			return err
		},
		"udp_responder": func(key string, value []byte) (err error) {
			config.Responder, err = d.listener(key, value, probe.DefaultUDPPort)
			return err
		},
		"bandwidth_server": func(key string, value []byte) (err error) {
			config.Bandwidth, err = d.listener(key, value, throughput.DefaultPort)
			return err
		},
		"interfaces": func(key string, value []byte) (err error) {
			config.Interfaces, err = d.strings(key, value, maxPatterns, func(pattern string) string {
				if err := link.CheckPattern(strings.TrimPrefix(pattern, "!")); err != nil || pattern == "!" {
					return "is not a glob pattern such as \"eth*\" or \"!docker*\""
				}
				return ""
			})
			return err
		},
		"sources": func(key string, value []byte) error {
			names, err := d.strings(key, value, 64, func(name string) string {
				if !slices.Contains(sectionNames(), name) {
					return "is none of " + strings.Join(sectionNames(), ", ")
				}
				return ""
			})
			config.Sources = 0
			for _, name := range names {
				config.Sources |= 1 << slices.Index(sectionNames(), name)
			}
			return err
		},
		"alerts": func(key string, value []byte) (err error) {
			config.Alerts, err = d.rules(key, value)
			return err
		},
		"job": func(key string, value []byte) error {
			inner := decoder{what: "configuration", prefix: "job.", example: jobExample}
			identity, variables, err := inner.job(value, "configuration")
			config.Job, config.Variables = identity, variables
			return err
		},
	})
	return config, err
}

// ParseJob reads what the caller of netmon_set_job says of the job.
// Errors: *TextError.
func ParseJob(text []byte) (job.Identity, map[string]string, error) {
	return (&decoder{what: "job", example: jobExample}).job(text, "configuration")
}

const jobExample = `{"rank": 0, "world_size": 8}`

// decoder reads the JSON texts that callers give. Its errors name the key, what is wrong and what would be right.
type decoder struct {
	what    string
	prefix  string // of keys, in errors
	example string // of what the text may be
}

func (d *decoder) fail(key, format string, args ...any) error {
	if key != "" {
		key = d.prefix + key
	}
	return &TextError{What: d.what, Key: key, Text: fmt.Sprintf(format, args...)}
}

// object hands every key's value to its reader. Missing text, and null as a value, mean the default.
func (d *decoder) object(text []byte, most int, keys map[string]func(key string, value []byte) error) error {
	if len(text) > most {
		return d.fail("", "is %d bytes long; at most %d are read", len(text), most)
	}
	if i := invalidUTF8(text); i >= 0 {
		return d.fail("", "is not UTF-8 text: byte %d is 0x%02x", i, text[i])
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(text, &values); err != nil {
		if !json.Valid(text) {
			return d.fail("", "is not JSON: %v", syntaxError(text))
		}
		return d.fail("", "is %s; it must be a JSON object such as %s", describe(text), d.example)
	}
	if name, repeated := repeatedKey(text); repeated {
		return d.fail(shorten(name), "is given twice; give it once")
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names) // the first error is the same every time
	for _, name := range names {
		read, known := keys[name]
		if !known {
			all := make([]string, 0, len(keys))
			for key := range keys {
				all = append(all, key)
			}
			slices.Sort(all)
			if name == "" {
				return d.fail("", "has the key \"\", which is not known; the keys are %s", strings.Join(all, ", "))
			}
			return d.fail(shorten(name), "is not known; the keys are %s", strings.Join(all, ", "))
		}
		if string(values[name]) == "null" {
			continue
		}
		if err := read(name, values[name]); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) number(key string, value []byte, least, most float64, unit string) (float64, error) {
	var number float64
	if kindOf(value) != "a number" || json.Unmarshal(value, &number) != nil || math.IsNaN(number) {
		return 0, d.fail(key, "is %s; it must be a number of %s from %v to %v", describe(value), unit, least, most)
	}
	if number < least || number > most {
		return 0, d.fail(key, "is %v; it must be from %v to %v %s", number, least, most, unit)
	}
	return number, nil
}

func (d *decoder) real(key string, value []byte) (*float64, error) {
	var number float64
	if kindOf(value) != "a number" || json.Unmarshal(value, &number) != nil || math.IsNaN(number) || math.IsInf(number, 0) {
		return nil, d.fail(key, "is %s; it must be a number", describe(value))
	}
	return &number, nil
}

func (d *decoder) boolean(key string, value []byte) (is bool, err error) {
	if kindOf(value) != "true or false" || json.Unmarshal(value, &is) != nil {
		return false, d.fail(key, "is %s; it must be true or false", describe(value))
	}
	return is, nil
}

func (d *decoder) integer(key string, value []byte, least, most int64) (*int64, error) {
	var number int64
	if kindOf(value) != "a number" || json.Unmarshal(value, &number) != nil || number < least || number > most {
		return nil, d.fail(key, "is %s; it must be a whole number from %d to %d", describe(value), least, most)
	}
	return &number, nil
}

func (d *decoder) duration(key string, value []byte, least, most time.Duration) (time.Duration, error) {
	seconds, err := d.number(key, value, units.Seconds(least), units.Seconds(most), "seconds")
	return units.Duration(seconds), err
}

func (d *decoder) string(key string, value []byte) (string, error) {
	var word string
	if kindOf(value) != "a string" || json.Unmarshal(value, &word) != nil {
		return "", d.fail(key, "is %s; it must be a string", describe(value))
	}
	return word, nil
}

// list reads a list of anything; ofWhat goes on where a sentence says that it must be a list.
func (d *decoder) list(key string, value []byte, most int, ofWhat string) (items []json.RawMessage, err error) {
	if kindOf(value) != "a list" || json.Unmarshal(value, &items) != nil {
		return nil, d.fail(key, "is %s; it must be a list %s", describe(value), ofWhat)
	}
	if len(items) > most {
		return nil, d.fail(key, "has %d entries; at most %d are allowed", len(items), most)
	}
	return items, nil
}

// strings reads a list of words; check says what is wrong with one, or nothing.
func (d *decoder) strings(key string, value []byte, most int, check func(string) string) ([]string, error) {
	items, err := d.list(key, value, most, "of strings")
	if err != nil {
		return nil, err
	}
	words := make([]string, len(items))
	for i, item := range items {
		if kindOf(item) != "a string" || json.Unmarshal(item, &words[i]) != nil {
			return nil, d.fail(key, "has %s as entry %d; it must be a list of strings", describe(item), i+1)
		}
		if words[i] == "" {
			return nil, d.fail(key, "has an empty string as entry %d", i+1)
		}
		if check == nil {
			continue
		}
		if wrong := check(words[i]); wrong != "" {
			return nil, d.fail(key, "has %q as entry %d, which %s", shorten(words[i]), i+1, wrong)
		}
	}
	return words, nil
}

func (d *decoder) job(text []byte, defaultSource string) (identity job.Identity, variables map[string]string, err error) {
	const most = math.MaxInt32 // of numbers
	integer := func(field **int64, least, most int64) func(string, []byte) error {
		return func(key string, value []byte) (err error) {
			*field, err = d.integer(key, value, least, most)
			return err
		}
	}
	word := func(field **string) func(string, []byte) error {
		return func(key string, value []byte) error {
			text, err := d.string(key, value)
			if err == nil && text == "" {
				err = d.fail(key, "is empty; leave it out where it is not known")
			}
			*field = &text
			return err
		}
	}
	if kind := kindOf(text); kind != "an object" && len(bytes.TrimSpace(text)) > 0 && d.prefix != "" {
		return identity, nil, (&decoder{what: d.what}).fail("job", "is %s; it must be an object such as %s", describe(text), d.example)
	}
	keys := map[string]func(string, []byte) error{
		"rank":             integer(&identity.Rank, 0, most),
		"local_rank":       integer(&identity.LocalRank, 0, most),
		"world_size":       integer(&identity.WorldSize, 1, most),
		"local_world_size": integer(&identity.LocalWorldSize, 1, most),
		"node_rank":        integer(&identity.NodeRank, 0, most),
		"master_address":   word(&identity.MasterAddress),
		"master_port":      integer(&identity.MasterPort, 1, 65535),
		"source":           word(&identity.Source),
		"peers": func(key string, value []byte) (err error) {
			identity.Peers, err = d.peers(key, value)
			return err
		},
		"environment": func(key string, value []byte) error {
			var texts map[string]json.RawMessage
			if kindOf(value) != "an object" || json.Unmarshal(value, &texts) != nil {
				return d.fail(key, "is %s; it must be an object of strings such as {\"RANK\": \"0\"}", describe(value))
			}
			if name, repeated := repeatedKey(value); repeated {
				return d.fail(key, "gives the variable %q twice; give it once", shorten(name))
			}
			variables = make(map[string]string, len(texts))
			for _, name := range slices.Sorted(maps.Keys(texts)) {
				if string(texts[name]) == "null" {
					continue // not set
				}
				text, err := d.string(key+"."+shorten(name), texts[name])
				if err != nil {
					return err
				}
				variables[name] = text
			}
			return nil
		},
	}
	if d.prefix == "" { // else the configuration's own "targets" say it
		keys["targets"] = func(key string, value []byte) (err error) {
			identity.Targets, err = d.targets(key, value)
			return err
		}
	}
	err = d.object(text, MaxConfigBytes, keys)
	if err == nil && identity.Rank != nil && identity.WorldSize != nil && *identity.Rank >= *identity.WorldSize {
		err = d.fail("rank", "is %d; it must be below world_size, which is %d", *identity.Rank, *identity.WorldSize)
	}
	if identity.Source == nil {
		identity.Source = &defaultSource
	}
	return identity, variables, err
}

func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return -1
}

// repeatedKey finds a key that an object holds twice: one of the two values would be ignored without a word. The text must be
// valid JSON.
func repeatedKey(object []byte) (name string, found bool) {
	seen := make(map[string]bool)
	depth := 0
	for i := 0; i < len(object); i++ {
		switch object[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			begin := i
			for i++; object[i] != '"'; i++ {
				if object[i] == '\\' {
					i++
				}
			}
			rest := bytes.TrimLeft(object[i+1:], " \t\r\n")
			if depth != 1 || len(rest) == 0 || rest[0] != ':' {
				continue
			}
			var key string
			if json.Unmarshal(object[begin:i+1], &key) == nil && seen[key] {
				return key, true
			}
			seen[key] = true
		}
	}
	return "", false
}

// syntaxError says where the text stops being JSON. It runs on the way out only.
func syntaxError(text []byte) string {
	var value json.RawMessage
	err := json.Unmarshal(text, &value)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("%v, at byte %d of %d", err, syntax.Offset, len(text))
	case err != nil:
		return err.Error()
	default:
		return "it is not understood"
	}
}

func kindOf(value []byte) string {
	value = bytes.TrimSpace(value)
	if len(value) == 0 {
		return "nothing"
	}
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// describe shows a value in an error.
func describe(value []byte) string {
	switch kind := kindOf(value); kind {
	case "a string", "a number", "true or false":
		return shorten(string(bytes.TrimSpace(value)))
	default:
		return kind
	}
}

func shorten(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
