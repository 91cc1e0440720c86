package puller

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// String lays the decision out in lines, for people. The text may change; use
// the fields instead.
func (d Decision) String() string {
	var b lines
	b.line("image", cutText(d.Image))
	if d.Repository != "" {
		b.line("  parsed", fmt.Sprintf("host %s  repository %s  tag %s  digest %s", d.Registry, d.Repository, dash(d.Tag), dash(d.Digest.String())))
		b.line("  platform", d.Platform)
	}
	if d.Policy != "" {
		b.line("policy", fmt.Sprintf("%-20s(%s)", d.Policy, d.PolicyWhy))
		b.line("  store", strings.TrimRight(fmt.Sprintf("%-20s-> %s%s", d.Store, d.outcome(), brackets(d.StoreWhy)), " "))
	} else {
		b.line("result", d.outcome())
	}
	d.backOffText(&b)
	d.candidatesText(&b)
	d.attemptsText(&b)
	d.indexText(&b)
	if d.Resolved != "" {
		b.line("blobs", fmt.Sprintf("%d to fetch (%s), %d already present", len(d.Fetch), bytesText(d.Fetch), len(d.Present)))
	}
	return b.String()
}

// lines are a key and a value each, the values below each other.
type lines struct{ strings.Builder }

func (b *lines) line(key, value string) {
	fmt.Fprintf(b, "%-12s%s\n", key, printable(value))
}

// outcome is what comes of it, in a few words.
func (d Decision) outcome() string {
	switch d.Action {
	case ActionPull:
		return "pull"
	case ActionUse:
		return "use what is stored"
	case ActionWait:
		return string(d.Reason)
	}
	if d.Reason == "" {
		return "fail: " + d.Why
	}
	return strings.TrimSuffix(string(d.Reason)+": "+d.Why, ": ")
}

func (d Decision) backOffText(b *lines) {
	w := d.BackOff
	if w == nil {
		return
	}
	state := "none"
	switch {
	case w.Repaired:
		state = "open: secrets are new"
	case w.Wait > 0:
		state = "next try in " + round(w.Wait).String()
	}
	b.line("back-off", fmt.Sprintf("%-20s(key: %s; %d failures)", state, w.Key, w.Failures))
	if w.Previous != "" {
		b.line("  previous", w.Previous)
	}
}

func (d Decision) candidatesText(b *lines) {
	if d.BackOff == nil {
		return
	}
	tried := 0
	for _, c := range d.Candidates {
		if c.Order > 0 {
			tried++
		}
	}
	switch tried {
	case 0:
		b.line("credentials", "none: one anonymous try")
	case 1:
		b.line("credentials", "1 candidate")
	default:
		b.line("credentials", strconv.Itoa(tried)+" candidates, tried in this order")
	}
	for _, c := range d.Candidates {
		order := "x"
		if c.Order > 0 {
			order = strconv.Itoa(c.Order)
		}
		text := c.From
		if c.Username != "" {
			text += "   user " + c.Username
		}
		if c.Why != "" {
			text += "   " + c.Why
		}
		fmt.Fprintf(b, "%3s  %s\n", order, printable(text))
	}
	if d.Skipped > 0 {
		fmt.Fprintf(b, "  x  and %d more that do not match\n", d.Skipped)
	}
}

func (d Decision) attemptsText(b *lines) {
	for i, a := range d.Attempts {
		answer := "accepted"
		if a.Error != "" {
			answer = a.Error
			if a.Status != 0 {
				answer = strings.TrimSpace(strconv.Itoa(a.Status) + " " + strings.Join(a.Codes, " "))
			}
		}
		key := ""
		if i == 0 {
			key = "attempts"
		}
		b.line(key, fmt.Sprintf("%d  %s: %s", i+1, a.From, answer))
	}
}

func (d Decision) indexText(b *lines) {
	if d.Resolved == "" {
		return
	}
	if len(d.Index) == 0 {
		b.line("manifest", short(d.Resolved))
		return
	}
	b.line("index", fmt.Sprintf("%s  %d manifests, want %s", short(d.Resolved), len(d.Index), d.Platform))
	skipped := false
	for _, e := range d.Index {
		key := ""
		switch {
		case e.Chosen:
			key = "  chosen"
		case !skipped:
			key, skipped = "  skipped", true
		}
		b.line(key, fmt.Sprintf("%-22s%-18s%s", short(e.Digest), e.Platform, e.Why))
	}
}

// short is enough of a digest to find it by.
func short(d digest.Digest) string {
	const enough = 12
	algorithm, hex, ok := strings.Cut(d.String(), ":")
	if !ok || len(hex) <= enough {
		return d.String()
	}
	return algorithm + ":" + hex[:enough]
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func brackets(s string) string {
	if s == "" {
		return ""
	}
	return "  (" + s + ")"
}

// bytesText is the size of blobs, in units that people read.
func bytesText(blobs []ocispec.Descriptor) string {
	var n int64
	for _, b := range blobs {
		n += b.Size
	}
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " bytes"
	}
	size, unit := float64(n), -1
	for size >= 1024 && unit < len("KMGTPE")-1 {
		size /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", size, "KMGTPE"[unit])
}

// printable keeps what is not to be printed, and line ends, out of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
