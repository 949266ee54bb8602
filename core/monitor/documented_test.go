package monitor

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/cluster"
	"netmon/core/sample"
)

// fields are the JSON names of a struct's own fields and of those that it embeds, with what is in front of them.
func fields(kind reflect.Type, prefix string) (names []string) {
	for i := range kind.NumField() {
		field := kind.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous:
			names = append(names, fields(field.Type, prefix)...)
		case field.IsExported() && name != "-":
			names = append(names, prefix+name)
		}
	}
	return names
}

func fieldsOf[T any](prefix string) []string { return fields(reflect.TypeFor[T](), prefix) }

// tableRow is one of a page's tables of names.
type tableRow struct {
	names []string
	cells map[string]string // by the head of their column
}

// tableRows are the rows of a text's tables whose first column has names of fields, or keys.
func tableRows(text string) (rows []tableRow) {
	var head []string
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "| ") {
			head = nil
			continue
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|"), "|")
		for i, cell := range cells {
			cells[i] = strings.TrimSpace(cell)
		}
		switch {
		case head == nil:
			head = cells
		case !slices.Contains([]string{"name", "field", "key"}, head[0]), strings.HasPrefix(line, "| ---"):
		default:
			found := tableRow{cells: map[string]string{}}
			for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[0], -1) {
				found.names = append(found.names, name[1])
			}
			for i, cell := range cells[:min(len(cells), len(head))] {
				found.cells[head[i]] = cell
			}
			rows = append(rows, found)
		}
	}
	return rows
}

// pageSections are the parts of a page by their titles, without marks.
func pageSections(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	require.NoError(t, err)
	sections := map[string]string{}
	for _, part := range strings.Split("\n"+string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		sections[strings.Trim(title, "`")] = body
	}
	return sections
}

// What is documented of each document is what there is, field by field.
func TestDocs_everyField(t *testing.T) {
	sections := fieldsOf[sample.Sample]("")
	scalars := []string{"schema", "sequence", "timestamp_seconds", "monotonic_seconds", "window_seconds", "collective_ratio"}
	for page, titles := range map[string]map[string][]string{
		"metrics.md": {
			"Top level":          scalars,
			"host":               fieldsOf[sample.Host](""),
			"job":                fieldsOf[sample.Job](""),
			"totals":             fieldsOf[sample.Totals](""),
			"interfaces[]":       without(fieldsOf[sample.Interface](""), fieldsOf[sample.Traffic]("")),
			"tcp":                fieldsOf[sample.TCP](""),
			"udp":                fieldsOf[sample.UDP](""),
			"ip":                 fieldsOf[sample.IP](""),
			"sockets":            fieldsOf[sample.Sockets](""),
			"probes[]":           slices.Concat(fieldsOf[sample.Probe](""), fieldsOf[sample.PathAnswer](""), fieldsOf[sample.Hop]("hops[].")),
			"peers[]":            fieldsOf[sample.Peer](""),
			"rdma[]":             slices.Concat(fieldsOf[sample.RDMAPort](""), fieldsOf[sample.RDMAGID]("gids[].")),
			"pcie[]":             fieldsOf[sample.PCIe](""),
			"nvlink[]":           fieldsOf[sample.NVLink](""),
			"transport":          slices.Concat(fieldsOf[sample.Transport](""), fieldsOf[sample.InterfaceShare]("shares[].")),
			"bandwidth_tests[]":  fieldsOf[sample.BandwidthTest](""),
			"collectives[]":      fieldsOf[sample.Collective](""),
			"collective_pending": fieldsOf[sample.CollectivePending](""),
			"self":               fieldsOf[sample.Self](""),
			"findings[]":         fieldsOf[sample.Finding](""),
			"phases[]":           fieldsOf[sample.Phase](""),
			"unavailable":        nil,
			"Answers to queries": slices.Concat(
				fieldsOf[sample.Stats](""), fieldsOf[sample.Health](""), fieldsOf[sample.Event]("events[]."), fieldsOf[sample.Fine](""),
				fieldsOf[sample.Collectives](""), fieldsOf[sample.CollectiveGroup]("groups[]."), fieldsOf[sample.CollectiveRecord]("recent[]."),
			),
			"netmon_snapshot": snapshotFields(t),
			"Digest":          digestFields(),
		},
		"cluster.md": {
			"Top level":       fieldsOf[cluster.View](""),
			"nodes[]":         fieldsOf[cluster.Node](""),
			"ranks[]":         fieldsOf[cluster.Rank](""),
			"ranks[].peers[]": fieldsOf[cluster.Way](""),
			"totals":          fieldsOf[cluster.Totals](""),
			"spread":          fieldsOf[cluster.Spread](""),
			"skew":            fieldsOf[cluster.Skew](""),
		},
		"alerts.md": {
			"What can be read": slices.Concat(
				without(fieldsOf[sample.Alerts](""), []string{"rules", "events"}), []string{"rules[]", "events[]"},
				without(fieldsOf[sample.AlertRule](""), ruleKeys()), fieldsOf[sample.AlertEvent](""),
			),
			"A rule": ruleKeys(),
		},
	} {
		written := pageSections(t, page)
		for title, want := range titles {
			body, found := written[title]
			if !assert.True(t, found, "docs/%s has no part %q", page, title) {
				continue
			}
			var told []string
			for _, row := range tableRows(body) {
				told = append(told, row.names...)
			}
			for _, name := range want {
				// A list of parts is told by its parts.
				inParts := slices.ContainsFunc(told, func(one string) bool { return strings.HasPrefix(one, name+"[]") })
				assert.True(t, slices.Contains(told, name) || inParts, "docs/%s, %s: nothing is said of %q", page, title, name)
			}
			for _, name := range told {
				bare := strings.TrimSuffix(name, "[]")
				assert.True(t, slices.Contains(want, name) || slices.Contains(want, bare), "docs/%s, %s: there is no %q", page, title, name)
			}
		}
		if page == "metrics.md" {
			for _, section := range without(sections, scalars) {
				_, one := titles[section]
				_, list := titles[section+"[]"]
				assert.True(t, one || list, "the test knows no part for %q", section)
			}
		}
	}
}

// Numbers have a unit, or are a share, a number of something or a place in an order.
func TestDocs_everyNumberHasAUnit(t *testing.T) {
	for title, body := range pageSections(t, "metrics.md") {
		for _, row := range tableRows(body) {
			kind, typed := row.cells["type"]
			unit, united := row.cells["unit"]
			isNumber := regexp.MustCompile(`\b(counter|gauge|rate|ratio)s?\b`).MatchString(kind)
			if typed && united && isNumber {
				assert.NotEmpty(t, unit, "docs/metrics.md, %s: %v has no unit", title, row.names)
			}
			for _, name := range row.names {
				named := regexp.MustCompile(`_(bytes|seconds|ratio|total|per_second)$`).MatchString(name)
				assert.False(t, named && typed && kind == "", "docs/metrics.md, %s: what kind of number is %q?", title, name)
			}
		}
	}
}

func without(names, others []string) (left []string) {
	for _, name := range names {
		if !slices.Contains(others, name) {
			left = append(left, name)
		}
	}
	return left
}

// ruleKeys are what a rule is given by.
func ruleKeys() []string {
	return []string{"metric", "above", "below", "for_seconds", "clear", "increase", "rate", "severity", "name"}
}

// snapshotFields are those of the C struct.
func snapshotFields(t *testing.T) (names []string) {
	t.Helper()
	header, err := os.ReadFile("../../include/netmon.h")
	require.NoError(t, err)
	_, body, _ := strings.Cut(string(header), "typedef struct netmon_snapshot {")
	body, _, found := strings.Cut(body, "} netmon_snapshot;")
	require.True(t, found)
	for _, field := range regexp.MustCompile(`(?m)^\s+(?:uint64_t|double) (\w+);`).FindAllStringSubmatch(body, -1) {
		names = append(names, field[1])
	}
	require.Greater(t, len(names), 20)
	return names
}

// digestFields are what a digest has, in the form of names of documents: it is binary, and has none of its own.
func digestFields() (names []string) {
	words := regexp.MustCompile(`P50|RTT|RDMA|BW|[A-Z][a-z]+`)
	for prefix, kind := range map[string]reflect.Type{
		"": reflect.TypeFor[cluster.Digest](), "peers[].": reflect.TypeFor[cluster.PeerDigest](), "marks[].": reflect.TypeFor[cluster.Mark](),
	} {
		for i := range kind.NumField() {
			name := words.FindAllString(kind.Field(i).Name, -1)
			names = append(names, prefix+strings.ToLower(strings.Join(name, "_")))
		}
	}
	return names
}
