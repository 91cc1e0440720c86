package verify_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/verify"
	"github.com/pullkit/pullkit/reference"
)

// says returns a check with the name name, which admits every image.
func says(name string) content.Check {
	return verify.Func(name, "1", func(context.Context, content.Admission) (string, error) { return "yes", nil })
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	p, err := verify.Policy(nil,
		verify.Rule{Pattern: "registry.example/team/app", Check: says("app")},
		verify.Rule{Pattern: "registry.example/team/bad/*", Check: verify.Reject()},
		verify.Rule{Pattern: "registry.example/team/*", Check: says("team")},
		verify.Rule{Pattern: "docker.io/library/nginx", Check: verify.Accept()},
		verify.Rule{Pattern: "secure.example:443/*", Check: says("secure")},
		verify.Rule{Pattern: "registry.example/a/a", Check: says("a/a")},
		verify.Rule{Pattern: "docker.io/*", Check: says("hub")},
	)
	require.NoError(t, err)
	for name, want := range map[string]string{
		"registry.example/team/app:v1":       "rule 1, registry.example/team/app: app => yes",
		"REGISTRY.example/team/app:v1":       "rule 1, registry.example/team/app: app => yes",
		"registry.example:443/team/app:v1":   "rule 1, registry.example/team/app: app => yes",
		"registry.example/team/app/x":        "rule 3, registry.example/team/*: team => yes",
		"registry.example/team/x/y/z":        "rule 3, registry.example/team/*: team => yes",
		"registry.example/team/bad/x":        "",
		"registry.example/team":              "",
		"registry.example/teams/x":           "",
		"registry.example:5000/team/app":     "",
		"nginx":                              "rule 4, docker.io/library/nginx: accepted without a check",
		"index.docker.io/library/nginx:1.27": "rule 4, docker.io/library/nginx: accepted without a check",
		"team/nginx":                         "rule 7, docker.io/*: hub => yes",
		"secure.example/x":                   "rule 5, secure.example:443/*: secure => yes",
		"registry.example/a/a":               "rule 6, registry.example/a/a: a/a => yes",
		"registry.example/a/b":               "",
	} {
		by, err := p.Admit(t.Context(), content.Admission{Ref: reference.MustParse(name)})
		assert.Equal(t, want, by, name)
		assert.Equal(t, want == "", err != nil, name)
	}
	explainer := p.(content.CheckExplainer)
	assert.Equal(t, "rule 3, registry.example/team/*: team", explainer.Explain(reference.MustParse("registry.example/team/x")))
	assert.Equal(t, "the default, because no rule matches: rejected", explainer.Explain(reference.MustParse("other.example/x")))
	_, err = p.Admit(t.Context(), content.Admission{Ref: reference.MustParse("other.example/x")})
	assert.EqualError(t, err, "the default, because no rule matches: rejected by the policy")
	_, err = p.Admit(t.Context(), content.Admission{})
	assert.ErrorIs(t, err, content.ErrCheckFailed, "an image without a name")

	open, err := verify.Policy(verify.Accept())
	require.NoError(t, err)
	by, err := open.Admit(t.Context(), content.Admission{Ref: reference.MustParse("x")})
	require.NoError(t, err)
	assert.Equal(t, "the default, because no rule matches: accepted without a check", by)
}

func TestMistakesInAPolicyAreErrors(t *testing.T) {
	for pattern, want := range map[string]string{
		"nginx":                        `write "docker.io/library/nginx"`,
		"team/*":                       `write "docker.io/team/*"`,
		"registry.example/app:v1":      "tag or digest",
		"*":                            "star",
		"registry.example/*/app":       "star",
		"registry.example/app*":        "star",
		"":                             "empty",
		" registry.example/app":        "white space",
		"registry.example/App/*":       "is not an image name",
		"registry.example/ok/app":      "rule 1 decides about all of its names",
		"registry.example/ok/deeper/*": "rule 1 decides about all of its names",
		"registry.example/ok/*":        "rule 1 decides about all of its names",
	} {
		_, err := verify.Policy(nil, verify.Rule{Pattern: "registry.example/ok/*", Check: verify.Accept()}, verify.Rule{Pattern: pattern, Check: verify.Accept()})
		assert.ErrorContains(t, err, "rule 2", pattern)
		assert.ErrorContains(t, err, want, pattern)
	}
	_, err := verify.Policy(nil, verify.Rule{Pattern: "registry.example/app"})
	assert.ErrorContains(t, err, "it has no Check")
}

func TestTheFingerprintOfAPolicyFollowsItsRules(t *testing.T) {
	seen := map[string]bool{}
	for _, rules := range [][]verify.Rule{
		nil,
		{{Pattern: "registry.example/a", Check: verify.Accept()}},
		{{Pattern: "registry.example/a", Check: verify.Reject()}},
		{{Pattern: "registry.example/b", Check: verify.Accept()}},
		{{Pattern: "registry.example/a", Check: verify.Accept()}, {Pattern: "registry.example/b", Check: verify.Accept()}},
		{{Pattern: "registry.example/b", Check: verify.Accept()}, {Pattern: "registry.example/a", Check: verify.Accept()}},
		{{Pattern: "registry.example/a", Check: verify.Func("f", "1", nil)}},
		{{Pattern: "registry.example/a", Check: verify.Func("f", "2", nil)}},
		{{Pattern: "registry.example/a", Check: verify.Func("g", "2", nil)}},
	} {
		for _, fallback := range []content.Check{verify.Accept(), verify.Reject()} {
			p, err := verify.Policy(fallback, rules...)
			require.NoError(t, err)
			print := p.Fingerprint()
			assert.NotEmpty(t, print)
			assert.False(t, seen[print], "%v", rules)
			seen[print] = true
		}
	}
	p, err := verify.Policy(nil, verify.Rule{Pattern: "registry.example/a", Check: verify.Func("f", "", nil)})
	require.NoError(t, err)
	assert.Empty(t, p.Fingerprint(), "answers of a check without a version are not remembered")
}

// An error of a check has the same reason after a policy has returned it.
func TestAPolicyKeepsTheMeaningOfAnError(t *testing.T) {
	for _, cause := range []error{&content.Error{Reason: content.ErrNetwork}, context.DeadlineExceeded, content.ErrRefused, errors.New("unsigned")} {
		p, err := verify.Policy(nil, verify.Rule{Pattern: "registry.example/a", Check: verify.Func("f", "1", func(context.Context, content.Admission) (string, error) { return "x", cause })})
		require.NoError(t, err)
		by, err := p.Admit(t.Context(), content.Admission{Ref: reference.MustParse("registry.example/a")})
		assert.ErrorIs(t, err, cause)
		assert.Empty(t, by)
	}
	_, err := verify.Func("f", "1", nil).Admit(t.Context(), content.Admission{})
	assert.Error(t, err, "a function that is nil admits nothing")
}

// FuzzPolicy holds that a rule decides only about names that its pattern matches, and that
// it decides about every full name that is its pattern.
func FuzzPolicy(f *testing.F) {
	for _, seed := range [][2]string{{"registry.example/team/*", "registry.example/team/app"}, {"docker.io/library/nginx", "nginx"}, {"a.example:443/*", "a.example/x"}, {"*", "x"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := verify.Policy(nil, verify.Rule{Pattern: pattern, Check: verify.Accept()})
		if err != nil {
			return
		}
		ref, err := reference.Parse(name)
		if err != nil {
			return
		}
		_, err = p.Admit(t.Context(), content.Admission{Ref: ref})
		assert.Equal(t, plainMatch(pattern, ref), err == nil, "%q %q", pattern, name)
	})
}
