package scripted

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/puller/content"
)

// An Outcome is the result of a run, for Stage.Judge.
type Outcome struct {
	Err    error         // of the pull; nil if it says that the image is complete
	Output []byte        // all that the pull printed and logged
	Took   time.Duration // of the whole run
	// Killed says that the pull was ended from outside. Err is then not judged, and
	// the store is.
	Killed bool
	// Box is a directory in which the pull may write to the directory "store" only. If
	// it is "", the store is not judged.
	Box string
	// PeakMB is the peak memory of the puller's process; 0 means not measured.
	PeakMB int64
}

// Judge compares a run with the scenario's expectations. The error is nil if all of them
// hold, and otherwise lists those that do not.
//
// Judge also checks what holds for every scenario: no secret goes to a listener that must
// not see it, or into an error or the output. No control character of the server is
// printed. A blob in the store has the digest that is its name. Nothing is written outside
// the store.
func (s *Stage) Judge(run int, out Outcome) error {
	runs := s.scenario.runs()
	if run < 0 || run >= len(runs) {
		return fmt.Errorf("scenario %q has no run %d", s.scenario.Name, run)
	}
	j := &judge{stage: s, expect: runs[run].Expect, out: out}
	for _, r := range s.Log() {
		if r.Run == run {
			j.requests = append(j.requests, r)
		}
	}
	j.outcome()
	j.secrets()
	j.traffic()
	j.output()
	if out.Box != "" {
		j.store()
	}
	if len(j.wrong) == 0 {
		return nil
	}
	return fmt.Errorf("scenario %q, run %d: %w", s.scenario.Name, run, errors.Join(j.wrong...))
}

// A judge collects what is wrong with one run.
type judge struct {
	stage    *Stage
	expect   Expect
	out      Outcome
	requests []Request
	wrong    []error
}

func (j *judge) fail(format string, args ...any) {
	j.wrong = append(j.wrong, fmt.Errorf(format, args...))
}

func (j *judge) outcome() {
	if within := j.expect.within(); j.out.Took > within {
		j.fail("took %v, at most %v", j.out.Took, within)
	}
	if most := j.expect.MaxRSSMB; most > 0 && j.out.PeakMB > most {
		j.fail("%d MB of memory, at most %d", j.out.PeakMB, most)
	}
	if j.out.Killed {
		return
	}
	switch {
	case j.expect.Outcome == "ok" && j.out.Err != nil:
		j.fail("failed, success expected: %w", j.out.Err)
	case j.expect.Outcome == "fail" && j.out.Err == nil:
		j.fail("success, failure expected")
	}
	if kind := content.ReasonOf(j.out.Err); j.expect.Kind != "" && kind != "" && !kindFits(j.expect.Kind, kind) {
		j.fail("error of the kind %q, expected %q: %w", kind, j.expect.Kind, j.out.Err)
	}
}

// kindName returns the scenarios' word for a kind of error, which is a content.Reason: a
// short word, or the reason's text with _ for blanks.
func kindName(k content.Reason) string {
	switch k {
	case content.ErrMediaType:
		return "media_type"
	case content.ErrNoPlatform:
		return "no_platform"
	case content.ErrUnavailable:
		return "unavailable"
	case content.ErrForbiddenURL:
		return "forbidden_url"
	case content.ErrRedirect:
		return "redirect"
	case content.ErrRange:
		return "range"
	case content.ErrContentEncoding:
		return "content_encoding"
	case content.ErrTLS:
		return "tls"
	case content.ErrNetwork:
		return "network"
	case content.ErrTimeout:
		return "timeout"
	case content.ErrStore:
		return "store"
	}
	return strings.ReplaceAll(string(k), " ", "_")
}

// kindFits reports whether an error's kind is the expected one. For some faults, two kinds
// are right.
func kindFits(want string, got content.Reason) bool {
	name := kindName(got)
	if name == want {
		return true
	}
	for _, pair := range [][2]string{
		{"network", "size_mismatch"},         // a body that ends too early
		{"size_mismatch", "digest_mismatch"}, // a descriptor with size 0, but not with the digest of no bytes
		{"bad_manifest", "bad_index"},        // a document that is both a manifest and an index
		{"bad_manifest", "media_type"},       // a document that is not JSON
	} {
		if slices.Contains(pair[:], want) && slices.Contains(pair[:], name) {
			return true
		}
	}
	return false
}

func (j *judge) secrets() {
	for _, r := range j.requests {
		for _, name := range r.Secrets {
			if !slices.Contains(j.expect.MaySee[name], r.Listener) {
				j.fail("the secret %q was sent to %s (%s %.80q)", name, r.Listener, r.Method, r.URI)
			}
		}
	}
}

func (j *judge) traffic() {
	for _, p := range j.expect.Never {
		if n := j.count(p); n > 0 {
			j.fail("%d requests that must not be made: %+v", n, p)
		}
	}
	for _, p := range j.expect.Must {
		if j.count(p) == 0 {
			j.fail("no request is like this one, which must be made: %+v", p)
		}
	}
	if most := j.expect.MaxRequests; most > 0 && len(j.requests) > most {
		j.fail("%d requests, at most %d", len(j.requests), most)
	}
	if sent, most := j.stage.Sent(), j.expect.MaxSent; most > 0 && sent > most {
		j.fail("%d body bytes, at most %d", sent, most)
	}
	if least := time.Duration(j.expect.MinGapMS) * time.Millisecond; least > 0 {
		if gap, ok := j.gap(); ok && gap < least {
			j.fail("asked again after %v, at least %v", gap, least)
		}
	}
}

func (j *judge) count(p RequestPattern) int {
	var uri *regexp.Regexp
	if p.URI != "" {
		var err error
		if uri, err = regexp.Compile(j.stage.Fill(p.URI)); err != nil {
			j.fail("%w", err)
			return 0
		}
	}
	n := 0
	for _, r := range j.requests {
		if (p.On == "" || p.On == r.Listener) && (p.Method == "" || p.Method == r.Method) &&
			match(uri, r.URI) && (p.Header == "" || r.Header.Get(p.Header) != "") {
			n++
		}
	}
	return n
}

// gap is the time between the first request that met a rule and the same request again.
func (j *judge) gap() (time.Duration, bool) {
	first := slices.IndexFunc(j.requests, func(r Request) bool { return r.Rule >= 0 })
	if first < 0 {
		return 0, false
	}
	a := j.requests[first]
	for _, b := range j.requests[first+1:] {
		if a.URI == b.URI && a.Method == b.Method {
			return b.At - a.At, true
		}
	}
	return 0, false
}

// maxOutput is how many bytes a pull may print and log, so that a server cannot fill a disk.
const maxOutput = 1 << 20

func (j *judge) output() {
	text := string(j.out.Output)
	if j.out.Err != nil {
		text += "\n" + j.out.Err.Error()
	}
	for name, secret := range j.stage.scenario.Secrets {
		if secret == "" {
			continue
		}
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), url.QueryEscape(secret)} {
			if strings.Contains(text, form) {
				j.fail("the secret %q was printed", name)
				break
			}
		}
	}
	if len(text) > maxOutput {
		j.fail("%d bytes of output", len(text))
	}
	if i := strings.IndexFunc(text, isControl); i >= 0 {
		j.fail("the output has a control character: %.80q", text[i:])
	}
	if bytes.Contains(j.out.Output, []byte("panic: ")) && bytes.Contains(j.out.Output, []byte("goroutine ")) {
		j.fail("the puller panicked")
	}
}

// isControl reports whether r is a control character other than tab and line ends.
func isControl(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r >= 0x7f && r < 0xa0
}

// store judges the store on disk and the files next to it.
func (j *judge) store() {
	entries, err := os.ReadDir(j.out.Box)
	if err != nil {
		j.fail("%w", err)
		return
	}
	for _, e := range entries {
		if e.Name() != "store" && e.Name() != "elsewhere" {
			j.fail("%q was written outside the store", e.Name())
		}
	}
	if planted, err := os.ReadDir(filepath.Join(j.out.Box, "elsewhere")); err == nil && len(planted) > 0 {
		j.fail("%q was written through a planted link", planted[0].Name())
	}
	held, err := j.held(filepath.Join(j.out.Box, "store"))
	if err != nil {
		j.fail("%w", err)
		return
	}
	for _, id := range j.expect.Complete {
		if !held[j.stage.Fill("{{hex:"+id+"}}")] {
			j.fail("the store lacks %q", id)
		}
	}
	for _, id := range j.expect.Absent {
		if held[j.stage.Fill("{{hex:"+id+"}}")] {
			j.fail("the store holds %q", id)
		}
	}
}

// held hashes all files of the store and compares blobs with their names.
func (j *judge) held(store string) (map[string]bool, error) {
	held := map[string]bool{}
	err := filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreAbsent(err)
		}
		sum, err := sumFile(path, sha256.New())
		if err != nil {
			return ignoreAbsent(err)
		}
		held[sum] = true
		switch filepath.Base(filepath.Dir(path)) {
		case "sha512":
			if sum, err = sumFile(path, sha512.New()); err != nil {
				return ignoreAbsent(err)
			}
			fallthrough
		case "sha256":
			if isHex(d.Name(), len(sum)) && d.Name() != sum {
				j.fail("the blob %.12s has other content", d.Name())
			}
		}
		return nil
	})
	return held, err
}

// ignoreAbsent ignores that a file was removed while the store is read.
func ignoreAbsent(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func sumFile(path string, h hash.Hash) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func isHex(name string, length int) bool {
	return len(name) == length && strings.Trim(name, "0123456789abcdef") == ""
}
