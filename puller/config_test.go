package puller

import (
	"testing"

	"github.com/pullkit/pullkit/backoff"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// AsKubelet sets every field of Kubelet. TestDecisionsAsKubelet sets the fields one by one.
func TestAsKubeletSetsEveryField(t *testing.T) {
	p, err := New(Config{Runtime: &fakeRuntime{}, AsKubelet: true})
	require.NoError(t, err)
	assert.Equal(t, allKubelet(), p.config.Kubelet)
}

func TestNewRefusesSettingsThatAreNotValid(t *testing.T) {
	verify, err := pullpolicy.NewVerification(pullpolicy.AlwaysVerify)
	require.NoError(t, err)
	r := &fakeRuntime{}
	nan := 0.0
	nan /= nan
	for text, config := range map[string]Config{
		"puller: Config.Runtime is nil; set it, for example to what transfer.New returns":          {},
		"puller: Config.Verify needs Config.Records":                                               {Runtime: r, Verify: verify},
		"puller: Config.QPS is -1; it must be 0 or more":                                           {Runtime: r, QPS: -1},
		"puller: Config.QPS is NaN; it must be 0 or more":                                          {Runtime: r, QPS: nan},
		"puller: Config.Backoff: backoff: Max is -1ns; it must not be negative":                    {Runtime: r, Backoff: backoff.Config{Max: -1}},
		"puller: Config.Backoff: backoff: Jitter is NaN; it must be a number that is not negative": {Runtime: r, Backoff: backoff.Config{Jitter: nan}},
	} {
		_, err := New(config)
		assert.EqualError(t, err, text)
	}
}
