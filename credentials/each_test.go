package credentials

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	errDenied = errors.New("denied")
	errSource = errors.New("no answer")
	errFull   = errors.New("disk full")
)

// A step is what one candidate, or one source, does.
type step byte

const (
	works   step = 'w' // the try succeeds
	denied  step = 'd' // the try fails, and another credential may succeed
	stops   step = 'S' // the try fails with Stop
	broken  step = 's' // the source yields an error in place of a candidate
	halts   step = 'H' // the source yields an error marked with Stop
	cancels step = 'c' // the try fails and the context ends
)

// scripted yields a candidate or an error for each step.
type scripted []step

func (s scripted) Lookup(context.Context, reference.Reference) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		for i, st := range s {
			c := Credential{Username: fmt.Sprint(i), Origin: Origin{Kind: KindFile, Name: fmt.Sprint(i)}}
			var err error
			switch st {
			case broken:
				err = errSource
			case halts:
				err = Stop(errSource)
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// TestEachFollowsItsRules runs every sequence of up to four steps, and compares the outcome
// with the rules of Each, written a second time in the plainest way.
func TestEachFollowsItsRules(t *testing.T) {
	steps := []step{works, denied, stops, broken, halts, cancels}
	anonymous := []step{works, denied, stops, cancels}
	var all []scripted
	for from := 0; len(all) == 0 || len(all[from]) < 4; from++ {
		if len(all) == 0 {
			all = append(all, scripted{})
		}
		for _, st := range steps {
			all = append(all, append(append(scripted{}, all[from]...), st))
		}
	}
	require.Len(t, all, 1+6+36+216+1296)
	for _, script := range all {
		for _, last := range anonymous {
			checkEach(t, script, last)
		}
	}
}

func checkEach(t *testing.T, script scripted, anonymous step) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var tried []string
	got, err := Each(ctx, script, reference.MustParse("r.io/app"), func(_ context.Context, c Credential) (string, error) {
		tried = append(tried, c.Username)
		st := anonymous
		if c.Username != "" {
			st = script[c.Username[0]-'0']
		}
		switch st {
		case denied:
			return "half", errDenied
		case stops:
			return "half", Stop(errFull)
		case cancels:
			cancel()
			return "half", ctx.Err()
		}
		return "image " + c.Username, nil
	})

	// The rules.
	var wantTried []string
	var wantErrs []error
	winner, ended, cancelled := "", false, false
	play := func(name string, st step) {
		if st != broken && st != halts {
			wantTried = append(wantTried, name)
		}
		switch st {
		case works:
			winner, ended = "image "+name, true
		case denied:
			wantErrs = append(wantErrs, errDenied)
		case stops:
			wantErrs, ended = append(wantErrs, errFull), true
		case broken:
			wantErrs = append(wantErrs, errSource)
		case halts:
			wantErrs, ended = append(wantErrs, errSource), true
		case cancels:
			wantErrs, ended, cancelled = append(wantErrs, context.Canceled), true, true
		}
	}
	for i, st := range script {
		if !ended {
			play(fmt.Sprint(i), st)
		}
	}
	if !ended && len(wantTried) == 0 {
		play("", anonymous)
	}

	name := fmt.Sprintf("%s, anonymous %c", string(script), anonymous)
	assert.Equal(t, wantTried, tried, name)
	assert.Equal(t, winner, got, name)
	if winner != "" {
		assert.NoError(t, err, name)
		return
	}
	var failed *AttemptsError
	if !assert.ErrorAs(t, err, &failed, name) || !assert.Len(t, failed.Attempts, len(wantErrs), name) {
		return
	}
	for i, want := range wantErrs {
		assert.ErrorIs(t, failed.Attempts[i].Err, want, name)
		assert.ErrorIs(t, err, want, name)
	}
	assert.Equal(t, cancelled, failed.Ended != nil, name)
}

func (s step) String() string { return string(rune(s)) }

func TestEachWithoutAKeyringTriesAnonymously(t *testing.T) {
	for _, ring := range []Keyring{nil, Join(), Static{}, Join(nil, nil)} {
		calls := 0
		got, err := Each(t.Context(), ring, reference.MustParse("nginx"), func(_ context.Context, c Credential) (int, error) {
			calls++
			assert.True(t, c.Anonymous())
			return 7, nil
		})
		assert.NoError(t, err)
		assert.Equal(t, 7, got)
		assert.Equal(t, 1, calls)
	}
}

// TestEachTriesNothingAfterTheContextEnded holds that Each does not call try with a context
// that has ended.
func TestEachTriesNothingAfterTheContextEnded(t *testing.T) {
	why := errors.New("node is shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for _, ring := range []Keyring{nil, scripted{works}, scripted{broken}} {
		_, err := Each(ctx, ring, reference.MustParse("nginx"), func(context.Context, Credential) (int, error) {
			t.Error("tried")
			return 0, nil
		})
		assert.ErrorIs(t, err, why)
		var failed *AttemptsError
		assert.ErrorAs(t, err, &failed)
	}
}

func TestTextOfAttemptsErrorListsTen(t *testing.T) {
	ring := Join(configOf(t, "r.io/team", "r.io"), scripted{broken})
	_, err := Each(t.Context(), ring, reference.MustParse("r.io/team/app:v1"), func(context.Context, Credential) (int, error) {
		return 0, errDenied
	})
	assert.EqualError(t, err, `image "r.io/team/app": with file "config.json", key "r.io/team": denied; `+
		`with file "config.json", key "r.io": denied; file "0" could not answer: no answer`)

	var many Static
	for i := range 40 {
		many = append(many, Credential{Username: fmt.Sprint(i)})
	}
	_, err = Each(t.Context(), many, reference.MustParse("nginx"), func(context.Context, Credential) (int, error) {
		return 0, errDenied
	})
	assert.ErrorContains(t, err, "; 30 more")
}

func TestEachEndsAtStop(t *testing.T) {
	assert.NoError(t, Stop(nil))
	assert.False(t, Stopped(nil))
	assert.False(t, Stopped(errFull))
	err := fmt.Errorf("write: %w", Stop(errFull))
	assert.True(t, Stopped(err))
	assert.ErrorIs(t, err, errFull)
	assert.EqualError(t, err, "write: disk full")
}
