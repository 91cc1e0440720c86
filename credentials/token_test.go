package credentials

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asking returns a plugin with tokens that answers without a process, and the requests that
// it received.
func asking(t *testing.T, attributes *tokenAttributes, password string, token func(Pod) (string, error)) (ring *providers, asked *[]request) {
	p := testProvider("")
	p.Token = attributes
	require.NoError(t, Rules{}.validate([]pluginConfig{p}))
	c := ProviderConfig{Token: func(_ context.Context, pod Pod, audience string) (Sensitive, error) {
		assert.Equal(t, attributes.Audience, audience)
		text, err := token(pod)
		return Conceal(text), err
	}}
	if token == nil {
		c.Token = nil
	}
	plugin, err := newProvider(c, p)
	require.NoError(t, err)
	asked = &[]request{}
	plugin.run = func(_ context.Context, stdin []byte, secrets []string) ([]byte, error) {
		var r request
		require.NoError(t, json.Unmarshal(stdin, &r))
		assert.Contains(t, secrets, r.Token)
		*asked = append(*asked, r)
		return fmt.Appendf(nil, `{"kind":"CredentialProviderResponse","apiVersion":%q,"cacheKeyType":"Registry","auth":{"r.io":{"username":"u","password":%q}}}`, p.APIVersion, password), nil
	}
	return &providers{list: []*provider{plugin}}, asked
}

func tokenOf(pod Pod) (string, error) { return "token of " + pod.Name, nil }

func TestThePluginReceivesThePodsToken(t *testing.T) {
	ring, asked := asking(t, &tokenAttributes{
		Audience: "aud", CacheType: cacheByServiceAccount, RequireServiceAccount: true,
		RequiredAnnotations: []string{"example.com/role"}, OptionalAnnotations: []string{"example.com/zone", "example.com/none"},
	}, "p", tokenOf)
	pod := Pod{
		Namespace: "web", Name: "a", UID: "1", ServiceAccount: ServiceAccount{Name: "builder", UID: "2"},
		Annotations: map[string]string{"example.com/role": "r", "example.com/zone": "z", "example.com/other": "o"},
	}
	creds, errs := collect(t.Context(), ring.For(pod), "r.io/app")
	require.Empty(t, errs)
	require.Len(t, creds, 1)
	assert.Equal(t, ServiceAccount{Namespace: "web", Name: "builder", UID: "2"}, creds[0].Origin.ServiceAccount)
	assert.Equal(t, []request{{
		Kind: "CredentialProviderRequest", APIVersion: providerGroup + "v1", Image: "r.io/app", Token: "token of a",
		Annotations: map[string]string{"example.com/role": "r", "example.com/zone": "z"},
	}}, *asked)
}

// TestPluginsThatNeedAServiceAccount holds which plugins are asked for a Pod without a
// service account or without an annotation.
func TestPluginsThatNeedAServiceAccount(t *testing.T) {
	builder := ServiceAccount{Name: "builder"}
	for name, tt := range map[string]struct {
		attributes tokenAttributes
		pod        Pod
		asked      int
	}{
		"required, none":           {tokenAttributes{RequireServiceAccount: true}, Pod{}, 0},
		"required, there":          {tokenAttributes{RequireServiceAccount: true}, Pod{ServiceAccount: builder}, 1},
		"optional, none":           {tokenAttributes{}, Pod{Name: "static"}, 1},
		"annotation is missing":    {tokenAttributes{RequireServiceAccount: true, RequiredAnnotations: []string{"a"}}, Pod{ServiceAccount: builder}, 0},
		"annotation is empty":      {tokenAttributes{RequireServiceAccount: true, RequiredAnnotations: []string{"a"}}, Pod{ServiceAccount: builder, Annotations: map[string]string{"a": ""}}, 1},
		"annotation of no account": {tokenAttributes{OptionalAnnotations: []string{"a"}}, Pod{Annotations: map[string]string{"a": "x"}}, 1},
	} {
		tt.attributes.Audience, tt.attributes.CacheType = "aud", cacheByServiceAccount
		ring, asked := asking(t, &tt.attributes, "p", tokenOf)
		_, errs := collect(t.Context(), ring.For(tt.pod), "r.io/app")
		assert.Empty(t, errs, name)
		assert.Len(t, *asked, tt.asked, name)
		for _, r := range *asked {
			assert.Equal(t, tt.pod.ServiceAccount.Name != "", r.Token != "", name)
			if r.Token == "" {
				assert.Empty(t, r.Annotations, name)
			}
		}
	}
}

// TestAnswersAreKeptPerAccountOrToken holds for which Pods an answer is used again.
func TestAnswersAreKeptPerAccountOrToken(t *testing.T) {
	base := Pod{Namespace: "web", Name: "a", ServiceAccount: ServiceAccount{Name: "builder", UID: "1"}, Annotations: map[string]string{"a": "x"}}
	change := func(f func(*Pod)) Pod {
		pod := base
		f(&pod)
		return pod
	}
	for _, cacheType := range []tokenCacheType{cacheByServiceAccount, cacheByToken} {
		ring, asked := asking(t, &tokenAttributes{Audience: "aud", CacheType: cacheType, OptionalAnnotations: []string{"a"}}, "p", tokenOf)
		pods := []Pod{
			base,
			change(func(p *Pod) { p.Name = "b" }), // another token of the same account
			change(func(p *Pod) { p.Namespace = "db" }),
			change(func(p *Pod) { p.ServiceAccount.Name = "other" }),
			change(func(p *Pod) { p.ServiceAccount.UID = "2" }),
			change(func(p *Pod) { p.Annotations = map[string]string{"a": "y"} }),
			change(func(p *Pod) { p.Annotations = nil }),
		}
		for range 2 {
			for _, pod := range pods {
				creds, errs := collect(t.Context(), ring.For(pod), "r.io/app")
				assert.Empty(t, errs)
				assert.Len(t, creds, 1)
			}
		}
		want := len(pods)
		if cacheType == cacheByServiceAccount {
			want--
		}
		assert.Len(t, *asked, want, cacheType)
	}
}

func TestATokenThatCannotBeUsedIsAnError(t *testing.T) {
	attributes := tokenAttributes{Audience: "aud", CacheType: cacheByServiceAccount, RequireServiceAccount: true}
	pod := Pod{Namespace: "web", Name: "a", ServiceAccount: ServiceAccount{Name: "builder"}}
	lookup := func(attributes tokenAttributes, password string, token func(Pod) (string, error)) ([]Credential, []error) {
		ring, _ := asking(t, &attributes, password, token)
		return collect(t.Context(), ring.For(pod), "r.io/app")
	}
	creds, errs := lookup(attributes, "token of a", tokenOf)
	assert.Empty(t, creds)
	require.Len(t, errs, 1, "the token itself, kept for all Pods of the account")
	assert.ErrorIs(t, errs[0], errProgramAnswer)

	attributes.CacheType = cacheByToken
	creds, errs = lookup(attributes, "token of a", tokenOf)
	assert.Len(t, creds, 1)
	assert.Empty(t, errs)

	_, errs = lookup(attributes, "p", func(Pod) (string, error) { return "", errDenied })
	require.Len(t, errs, 1)
	assert.ErrorIs(t, errs[0], errDenied)

	_, errs = lookup(attributes, "p", nil)
	require.Len(t, errs, 1)
	assert.ErrorIs(t, errs[0], errNoToken)
}

// TestCacheIsBounded holds that the number of answers that are kept is bounded.
func TestCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := newProvider(ProviderConfig{}, testProvider(""))
		require.NoError(t, err)
		for i := range maxCached + 500 {
			p.cache.put(question{image: fmt.Sprint(i)}, scopeImage, table{}, time.Hour)
		}
		kept := 0
		for range p.cache.kept.All() {
			kept++
		}
		assert.Equal(t, maxCached, kept)
		time.Sleep(time.Hour)
		_, ok := p.cache.get(question{image: fmt.Sprint(maxCached)})
		assert.True(t, ok, "at the very end of its time an answer is still good")
		time.Sleep(time.Nanosecond)
		_, ok = p.cache.get(question{image: fmt.Sprint(maxCached)})
		assert.False(t, ok)
	})
}
