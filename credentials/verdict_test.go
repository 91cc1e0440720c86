package credentials

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"syscall"
	"testing"

	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
)

// A statusError is the error of a library that has the status in a method.
type statusError int

func (e statusError) Error() string   { return fmt.Sprint("status ", int(e)) }
func (e statusError) StatusCode() int { return int(e) }

func TestVerdictOfReadsStatusesAndErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Verdict
	}{
		{nil, ""},
		{errors.New("odd"), ""},
		{statusError(401), VerdictUnauthorized},
		{statusError(403), VerdictDenied},
		{statusError(404), VerdictAbsent},
		{statusError(410), VerdictAbsent},
		{statusError(400), VerdictAnswered},
		{statusError(408), VerdictUnavailable},
		{statusError(429), VerdictUnavailable},
		{statusError(503), VerdictUnavailable},
		{fmt.Errorf("wrapped: %w", statusError(404)), VerdictAbsent},
		{WithStatus(errors.New("odd"), 403), VerdictDenied},
		{WithStatus(statusError(404), 401), VerdictUnauthorized},
		{fmt.Errorf("wrapped: %w", fs.ErrNotExist), VerdictAbsent},
		{fmt.Errorf("wrapped: %w", fs.ErrPermission), VerdictDenied},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, VerdictAbsent},
		{syscall.EIO, ""},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, VerdictUnavailable},
		{context.DeadlineExceeded, VerdictUnavailable},
	} {
		assert.Equal(t, tt.want, VerdictOf(tt.err), "%v", tt.err)
	}
	assert.NoError(t, WithStatus(nil, 404))
	assert.EqualError(t, WithStatus(errors.New("odd"), 404), "odd")
}

// TestOneOfSeveralAnswersCounts holds which of several answers counts, in both orders, and
// that errors.Is says the same.
func TestOneOfSeveralAnswersCounts(t *testing.T) {
	type answers = map[string]error
	stale, denied, absent, down := statusError(401), statusError(403), statusError(404), statusError(503)
	broken := Stop(errors.New("bad manifest"))
	for _, tt := range []struct {
		name string
		by   answers // by user name; "" means anonymous
		want Verdict
	}{
		{"stale, then valid and absent", answers{"a": stale, "b": absent}, VerdictAbsent},
		{"denied, then absent", answers{"a": denied, "b": absent}, VerdictAbsent},
		{"stale, then denied", answers{"a": stale, "b": denied}, VerdictDenied},
		{"both stale", answers{"a": stale, "b": stale}, VerdictUnauthorized},
		{"absent, then down", answers{"a": absent, "b": down}, VerdictUnavailable},
		{"stale, then 429", answers{"a": stale, "b": statusError(429)}, VerdictUnavailable},
		{"absent, then a broken manifest", answers{"a": absent, "b": broken}, VerdictAnswered},
		{"down, then a broken manifest", answers{"a": down, "b": broken}, VerdictUnavailable},
		{"stale, then absent for nobody", answers{"a": stale, "": absent}, VerdictUnauthorized},
		{"denied, then absent for nobody", answers{"a": denied, "": absent}, VerdictDenied},
		{"absent for one, stale for nobody", answers{"a": absent, "": stale}, VerdictAbsent},
		{"absent for nobody alone", answers{"": absent}, VerdictAbsent},
		{"odd, then absent", answers{"a": errors.New("odd"), "b": absent}, VerdictAbsent},
		{"odd alone", answers{"a": errors.New("odd")}, ""},
	} {
		for _, order := range [][]string{{"a", "b", ""}, {"", "b", "a"}} {
			var ring Static
			for _, user := range order {
				if tt.by[user] != nil {
					ring = append(ring, Credential{Username: user})
				}
			}
			_, err := Each(t.Context(), ring, reference.MustParse("r.io/app:v1"), func(_ context.Context, c Credential) (int, error) {
				return 0, tt.by[c.Username]
			})
			var all *AttemptsError
			if !assert.ErrorAs(t, err, &all, tt.name) {
				continue
			}
			if Stopped(all.Attempts[0].Err) {
				continue // the other credential was not tried
			}
			assert.Len(t, all.Attempts, len(tt.by), "%s: all are listed", tt.name)
			assert.Equal(t, tt.want, VerdictOf(err), tt.name)
			assert.Equal(t, tt.want, VerdictOf(fmt.Errorf("pull: %w", err)), tt.name)
			assert.Equal(t, tt.want == VerdictAbsent, errors.Is(err, fs.ErrNotExist), "%s: fs.ErrNotExist", tt.name)
			assert.Equal(t, tt.want == VerdictDenied || tt.want == VerdictUnauthorized, errors.Is(err, fs.ErrPermission), "%s: fs.ErrPermission", tt.name)
			for _, answer := range tt.by {
				v := VerdictOf(answer)
				if Stopped(answer) {
					v = VerdictAnswered
				}
				assert.Equal(t, v == "" || v == tt.want, errors.Is(err, answer), "%s: %v", tt.name, answer)
			}
		}
	}
}

// TestErrorsOfSourcesHaveNoVerdict holds that a missing program or file of a source does
// not look like a missing image.
func TestErrorsOfSourcesHaveNoVerdict(t *testing.T) {
	missing := fmt.Errorf("docker-credential-x: %w: %w", errSource, fs.ErrNotExist)
	ring := failing{missing}
	for answer, want := range map[error]Verdict{statusError(401): VerdictUnauthorized, statusError(404): VerdictAbsent, statusError(503): VerdictUnavailable} {
		_, err := Each(t.Context(), ring, reference.MustParse("r.io/app:v1"), func(context.Context, Credential) (int, error) { return 0, answer })
		assert.Equal(t, want, VerdictOf(err))
		assert.ErrorIs(t, err, errSource)
		assert.Equal(t, want == VerdictAbsent, errors.Is(err, fs.ErrNotExist))
	}
	_, err := Each(t.Context(), failing{Stop(missing)}, reference.MustParse("r.io/app:v1"), func(context.Context, Credential) (int, error) { return 0, nil })
	assert.Equal(t, Verdict(""), VerdictOf(err))
	assert.ErrorIs(t, err, errSource)
	assert.NotErrorIs(t, err, fs.ErrNotExist)
}

// TestAnswersDoNotCountAfterTheContextEnded holds that an answer does not count if the
// context ended before all credentials were tried.
func TestAnswersDoNotCountAfterTheContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Each(ctx, Static{{Username: "a"}, {Username: "b"}}, reference.MustParse("r.io/app:v1"), func(context.Context, Credential) (int, error) {
		cancel()
		return 0, statusError(404)
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, VerdictUnavailable, VerdictOf(err))
}

// A failing keyring has a source that cannot answer.
type failing struct{ err error }

func (f failing) Lookup(context.Context, reference.Reference) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) { yield(Credential{}, f.err) }
}
