package pullpolicy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// load reads a file of vectors and checks how many there are, so that none is lost.
func load[T any](t *testing.T, file string, want int) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	require.NoError(t, err)
	var rows []T
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, want)
	return rows
}

func TestVectorsDefault(t *testing.T) {
	type row struct {
		Image, Policy, Want string
		Valid               bool `json:"image_valid"`
	}
	for _, v := range load[row](t, "default.json", 69) {
		got := pullpolicy.Policy(v.Policy).OrDefault(v.Image)
		assert.Equal(t, pullpolicy.Policy(v.Want), got, "%q with policy %q", v.Image, v.Policy)
		_, err := reference.Parse(v.Image)
		assert.Equal(t, v.Valid, err == nil, "%q: %v", v.Image, err)
		if v.Policy == "" {
			assert.Equal(t, got, pullpolicy.Default(v.Image), "%q", v.Image)
		}
	}
}

func TestVectorsValidate(t *testing.T) {
	wants := map[string]error{"ok": nil, "required": pullpolicy.ErrRequired, "not-supported": pullpolicy.ErrNotSupported}
	for _, v := range load[struct{ Policy, Want string }](t, "validate.json", 14) {
		want, known := wants[v.Want]
		require.True(t, known, "%q", v.Want)
		got, err := pullpolicy.Parse(v.Policy)
		require.ErrorIs(t, err, want, "%q", v.Policy)
		if err == nil {
			assert.Equal(t, pullpolicy.Policy(v.Policy), got)
		} else {
			assert.Empty(t, got)
		}
	}
}

func TestVectorsAlwaysPullImages(t *testing.T) {
	type row struct {
		Resource, Subresource, Operation, Field, Image, Policy string
		Old                                                    string `json:"old_image"`
		After                                                  string `json:"policy_after_admit"`
		Validate                                               string `json:"validate_of_policy"`
	}
	for _, v := range load[row](t, "alwayspullimages.json", 22) {
		image := pullpolicy.PodImage{Path: "spec." + v.Field + "[0]", Name: v.Image, Policy: pullpolicy.Policy(v.Policy), Volume: v.Field == "volumes.image"}
		request := pullpolicy.AlwaysPullImages{
			Resource: v.Resource, Subresource: v.Subresource, Operation: pullpolicy.Operation(v.Operation),
			Images: []pullpolicy.PodImage{image},
		}
		if v.Old != "" {
			old := image
			old.Name = v.Old
			request.OldImages = []pullpolicy.PodImage{old}
		}
		err := request.Validate()
		switch v.Validate {
		case "ok":
			require.NoError(t, err, "%+v", v)
			assert.True(t, request.Applies(), "%+v", v)
		case "ignored":
			require.NoError(t, err, "%+v", v)
			assert.False(t, request.Applies(), "%+v", v)
		case "forbidden":
			var forbidden *pullpolicy.ForbiddenError
			require.ErrorAs(t, err, &forbidden, "%+v", v)
			require.ErrorIs(t, err, pullpolicy.ErrForbidden)
			assert.Equal(t, []pullpolicy.PodImage{image}, forbidden.Images)
		default:
			require.Fail(t, "unknown answer", "%q", v.Validate)
		}
		changed := request.Mutate()
		assert.Equal(t, pullpolicy.Policy(v.After), request.Images[0].Policy, "%+v", v)
		assert.Equal(t, v.After != v.Policy, changed, "%+v", v)
		assert.NoError(t, request.Validate(), "after the mutating half: %+v", v)
	}
}

func TestVectorsVerification(t *testing.T) {
	type row struct {
		Policy        pullpolicy.VerificationPolicy
		Image         string
		Allowlist     []string
		Pulled        bool `json:"pulled_by_kubelet"`
		Verify, Error bool
	}
	for _, v := range load[row](t, "verification.json", 334) {
		check, err := pullpolicy.NewVerification(v.Policy, v.Allowlist...)
		require.Equal(t, v.Error, err != nil, "%+v: %v", v, err)
		if v.Error {
			continue
		}
		assert.Equal(t, v.Policy, check.Policy())
		assert.Equal(t, v.Verify, check.Required(v.Image, v.Pulled), "%+v", v)
		if v.Policy == pullpolicy.NeverVerifyPreloadedImages {
			assert.True(t, check.IsZero())
			assert.Equal(t, v.Verify, pullpolicy.Verification{}.Required(v.Image, v.Pulled), "the zero value: %+v", v)
		} else {
			assert.False(t, check.IsZero())
		}
	}
}

func TestVectorsAllowlistPatterns(t *testing.T) {
	type row struct {
		Pattern, Compares string
		Valid, Wildcard   bool
	}
	for _, v := range load[row](t, "allowlist_patterns.json", 59) {
		match, err := allowlist(v.Pattern)
		if !v.Valid {
			require.ErrorIs(t, err, pullpolicy.ErrPattern, "%q", v.Pattern)
			assert.False(t, match(v.Pattern))
			continue
		}
		require.NoError(t, err, "%q", v.Pattern)
		assert.True(t, match(v.Compares), "%q", v.Pattern)
		assert.Equal(t, v.Wildcard, match(v.Compares+"below"), "%q", v.Pattern)
		assert.False(t, match("x"+v.Compares), "%q", v.Pattern)
	}
}

// TestVectorsTrim: the allowlist compares the result of Trim, or the name itself where
// Trim fails.
func TestVectorsTrim(t *testing.T) {
	type row struct {
		Image, Trimmed string
		Error          bool
	}
	for _, v := range load[row](t, "trim.json", 23) {
		got, err := reference.Trim(v.Image)
		require.Equal(t, v.Error, err != nil, "%q", v.Image)
		assert.Equal(t, v.Trimmed, got, "%q", v.Image)
		if err == nil {
			match, err := allowlist(v.Trimmed)
			require.NoError(t, err, "%q", v.Trimmed)
			assert.True(t, match(v.Image), "%q", v.Image)
		}
	}
}

// TestVectorsEnsure compares Decide with the decisions of the kubelet's
// EnsureImageExists.
func TestVectorsEnsure(t *testing.T) {
	type row struct {
		Policy, Present, Verification, Action, Error string
		Inspects                                     bool
	}
	actions := map[string]pullpolicy.Outcome{"use-local": pullpolicy.Use, "pull": pullpolicy.Pull}
	errs := map[string]pullpolicy.Outcome{"ErrImageNeverPull": pullpolicy.Refuse, "ImageInspectError": pullpolicy.Fail}
	left := map[string]int{}
	for _, v := range load[row](t, "ensure.json", 63) {
		policy := pullpolicy.Policy(v.Policy)
		known := pullpolicy.Absent
		switch {
		case v.Error == "InvalidImageName":
			left["the name does not parse: the kubelet does not look at the policy"]++
			continue
		case v.Error == "the verification's own error":
			left["the records fail: Decide does not use them"]++
			continue
		case v.Present == "error":
			known = pullpolicy.Unknown
		case v.Present == "yes" && v.Verification == "must-pull":
			known = pullpolicy.NeedsProof
		case v.Present == "yes":
			known = pullpolicy.Present
		}
		assert.Equal(t, v.Inspects, policy.AsksStore(), "%+v", v)
		if _, err := pullpolicy.Parse(v.Policy); err != nil {
			left["the policy is unknown: the kubelet pulls, Decide returns Fail"]++
			assert.Equal(t, pullpolicy.Fail, policy.Decide(known), "%+v", v)
			continue
		}
		want, ok := actions[v.Action]
		if !ok {
			want, ok = errs[v.Error]
		}
		require.True(t, ok, "%+v", v)
		assert.Equal(t, want, policy.Decide(known), "%+v", v)
	}
	assert.Equal(t, map[string]int{
		"the name does not parse: the kubelet does not look at the policy": 3,
		"the records fail: Decide does not use them":                       2,
		"the policy is unknown: the kubelet pulls, Decide returns Fail":    24,
	}, left)
}
