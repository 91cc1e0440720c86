package credentials

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ourNames are the rows of plugin.json with a provider without a name. The kubelet accepts
// it, although its program would be the directory of plugins itself. This package refuses
// it, because the hostile inputs say so (plugin/name-empty).
var ourNames = map[string]bool{"config-name-empty": true, "config-name-missing": true}

func TestPluginVectors(t *testing.T) {
	eachVector(t, "plugin.json", 84, func(t *testing.T, v vector, r Rules, want expectation) {
		switch v.Op {
		case "pluginconfig":
			if ourNames[v.Name] && !r.Kubelet {
				want.Error, want.Providers = true, 0
			}
			list, err := r.parseProviders([]byte(v.Config))
			assert.Equal(t, want.Error, err != nil, "%v", err)
			assert.Len(t, list, want.Providers)
		case "pluginresponse":
			checkResponse(t, v, want)
		case "plugincache":
			synctest.Test(t, func(t *testing.T) { checkCache(t, v, r, want) })
		default:
			t.Fatalf("unknown op %q", v.Op)
		}
	})
}

func checkResponse(t *testing.T, v vector, want expectation) {
	got, err := parseResponse([]byte(v.Config), v.API)
	assert.Equal(t, want.Error, err != nil, "%v", err)
	if want.Response == nil {
		return
	}
	assert.Equal(t, want.Response.CacheKeyType, string(got.scope))
	if want.Response.CacheDuration == nil {
		assert.Nil(t, got.duration)
	} else if assert.NotNil(t, got.duration) {
		assert.Equal(t, *want.Response.CacheDuration, got.duration.String())
	}
	assert.Equal(t, want.Response.Auth == nil, got.noAuth)
	assert.Len(t, got.auth, len(want.Response.Auth))
	for _, item := range got.auth {
		assert.Equal(t, want.Response.Auth[item.key].Username, item.username)
		assert.Equal(t, want.Response.Auth[item.key].Password, item.password.Reveal())
	}
}

func checkCache(t *testing.T, v vector, r Rules, want expectation) {
	keep, err := time.ParseDuration(v.Default)
	require.NoError(t, err)
	p, err := newProvider(ProviderConfig{Rules: r}, pluginConfig{
		Name: "p", APIVersion: v.API, MatchImages: v.Match, DefaultCacheDuration: keep,
	})
	require.NoError(t, err)
	executed := false
	p.run = func(_ context.Context, stdin []byte, _ []string) ([]byte, error) {
		executed = true
		var req request
		require.NoError(t, json.Unmarshal(stdin, &req))
		assert.Equal(t, v.API, req.APIVersion)
		if text, ok := v.Responses[req.Image]; ok {
			return []byte(text), nil
		}
		return []byte(v.Responses["*"]), nil
	}
	ring := &providers{rules: r, list: []*provider{p}}
	require.Len(t, want.Steps, len(v.Steps))
	for i, step := range v.Steps {
		if step.Advance != "" {
			d, err := time.ParseDuration(step.Advance)
			require.NoError(t, err)
			time.Sleep(d)
		}
		executed = false
		var creds []vectorCred
		failed := false
		for c, err := range ring.Lookup(t.Context(), reference.MustParse(step.Image)) {
			if err != nil {
				failed = true
				continue
			}
			creds = append(creds, vectorCred{Key: c.Origin.Key, Username: c.Username, Password: c.Password.Reveal()})
		}
		assert.Equal(t, want.Steps[i].Executed, executed, "step %d", i)
		assert.Equal(t, want.Steps[i].Error, failed, "step %d", i)
		checkCreds(t, expectation{Creds: want.Steps[i].Creds}, creds)
	}
}
