package registry_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/registry/certsd"
	"github.com/pullkit/pullkit/reference"
)

var _ content.Source = (*registry.Client)(nil)

var (
	robot        = credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}
	noCredential credentials.Credential
)

// start starts a registry with one image, team/app:v1, that robot may pull.
func start(t *testing.T, conf pullertest.Config) (*pullertest.Registry, pullertest.PutResult, reference.Reference) {
	if conf.Users == nil && conf.Auth != pullertest.AuthNone {
		conf.Users = []pullertest.User{{Name: "robot", Password: "s3cret-pass", IdentityToken: "identity-of-robot"}}
	}
	reg, err := pullertest.Start(conf)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, reg.Close()) })
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{200_000, 50_000}, Seed: 1})
	require.NoError(t, err)
	return reg, put, reference.MustParse(reg.Host() + "/team/app:v1")
}

// pull reads a manifest and all its blobs.
func pull(ctx context.Context, c *registry.Client, repo content.Repo, blobs []ocispec.Descriptor) error {
	if _, err := c.Manifest(ctx, repo, ""); err != nil {
		return err
	}
	for _, b := range blobs {
		data, err := read(ctx, c, repo, b)
		if err != nil {
			return err
		}
		if !verify.Bytes(b.Digest, data) {
			return errors.New("wrong bytes")
		}
	}
	return nil
}

func read(ctx context.Context, c *registry.Client, repo content.Repo, desc ocispec.Descriptor) ([]byte, error) {
	body, err := c.Blob(ctx, repo, desc, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	return data, errors.Join(err, body.Close())
}

func blobsOf(put pullertest.PutResult) []ocispec.Descriptor {
	return put.Blobs
}

// The requests of each pull are compared with the expected ones.
func TestAPullMakesNoPingAndNoRequestTwice(t *testing.T) {
	reg, _, _ := start(t, pullertest.Config{Auth: pullertest.AuthBearer})
	one, err := reg.PutImage("team/one:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	require.NoError(t, err)
	many, err := reg.PutImage("team/many:v1", pullertest.ImageSpec{Layers: []int64{1000}, Platforms: []ocispec.Platform{
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}})
	require.NoError(t, err)
	var tr trace
	c := newClient(t, registry.Config{PlainHTTP: []string{reg.Host()}, Logger: tr.logger()})
	defer c.CloseIdleConnections()

	ref := reference.MustParse(reg.Host() + "/team/one:v1")
	require.NoError(t, pull(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, one.Blobs))
	tr.assert(t, "GET manifest 401", "GET token 200", "GET manifest 200", "GET blob 200", "GET blob 200")
	doc, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, one.Descriptor.Digest)
	require.NoError(t, err)
	assert.Nil(t, doc.Body)
	tr.assert(t, "HEAD manifest 200")
	require.NoError(t, pull(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, one.Blobs))
	tr.assert(t, "GET manifest 200", "GET blob 200", "GET blob 200")

	ref = reference.MustParse(reg.Host() + "/team/many:v1")
	_, err = c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	require.NoError(t, err)
	child, err := ref.WithDigest(many.Manifests[0].Digest)
	require.NoError(t, err)
	require.NoError(t, pull(t.Context(), c, content.Repo{Ref: child, Cred: robot}, many.Blobs[:2]))
	tr.assert(t, "GET token 200", "GET manifest 200", "GET manifest 200", "GET blob 200", "GET blob 200")
}

func TestAPullSendsTheCredentialThatTheRegistryNeeds(t *testing.T) {
	identity := credentials.Credential{IdentityToken: credentials.Conceal("identity-of-robot")}
	wrong := credentials.Credential{Username: "robot", Password: credentials.Conceal("wrong-pass")}
	for _, tt := range []struct {
		name string
		conf pullertest.Config
		cred credentials.Credential
		want content.Reason
		more []string // the requests before the first one that succeeds
	}{
		{"open", pullertest.Config{}, noCredential, "", nil},
		{"open, with a credential", pullertest.Config{}, robot, "", nil},
		{"basic", pullertest.Config{Auth: pullertest.AuthBasic}, robot, "", []string{"GET manifest 401"}},
		{"basic over TLS", pullertest.Config{Auth: pullertest.AuthBasic, TLS: true}, robot, "", []string{"GET manifest 401"}},
		{"bearer", pullertest.Config{Auth: pullertest.AuthBearer}, robot, "", []string{"GET manifest 401", "GET token 200"}},
		{"bearer over TLS", pullertest.Config{Auth: pullertest.AuthBearer, TLS: true}, robot, "", []string{"GET manifest 401", "GET token 200"}},
		{"bearer, identity token", pullertest.Config{Auth: pullertest.AuthBearer}, identity, "", []string{"GET manifest 401", "POST token 200"}},
		{"bearer, anonymous", pullertest.Config{Auth: pullertest.AuthBearer, Users: []pullertest.User{{}}}, noCredential, "", []string{"GET manifest 401", "GET token 200"}},
		{"basic, wrong password", pullertest.Config{Auth: pullertest.AuthBasic}, wrong, content.ErrUnauthorized, nil},
		{"basic, anonymous", pullertest.Config{Auth: pullertest.AuthBasic}, noCredential, content.ErrUnauthorized, nil},
		{"basic, identity token", pullertest.Config{Auth: pullertest.AuthBasic}, identity, content.ErrUnauthorized, nil},
		{"bearer, wrong password", pullertest.Config{Auth: pullertest.AuthBearer}, wrong, content.ErrUnauthorized, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg, put, ref := start(t, tt.conf)
			var tr trace
			cfg := registry.Config{PlainHTTP: []string{reg.Host()}, Logger: tr.logger()}
			if tt.conf.TLS {
				cfg.PlainHTTP = nil
				cfg.RootCAs = x509.NewCertPool()
				require.True(t, cfg.RootCAs.AppendCertsFromPEM(reg.CA()))
			}
			c := newClient(t, cfg)
			defer c.CloseIdleConnections()
			err := pull(t.Context(), c, content.Repo{Ref: ref, Cred: tt.cred}, blobsOf(put))
			if tt.want != "" {
				assert.ErrorIs(t, err, tt.want)
				assert.ErrorIs(t, err, fs.ErrPermission)
				var e *content.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, 401, e.Status)
				assert.NotContains(t, err.Error(), "wrong-pass")
				return
			}
			require.NoError(t, err)
			want := append(tt.more, "GET manifest 200")
			for range put.Blobs {
				want = append(want, "GET blob 200")
			}
			tr.assert(t, want...)
			assert.NotContains(t, tr.text.String(), "s3cret-pass")
		})
	}
}

// A mistake in the settings is an error of New, which names the setting. No registry is
// asked.
func TestNewNamesTheSettingThatIsWrong(t *testing.T) {
	hosts := func(h registry.Hosts) map[string]registry.Hosts { return map[string]registry.Hosts{"reg.example": h} }
	for want, cfg := range map[string]registry.Config{
		`StallTimeout is -1s`: {StallTimeout: -time.Second},
		`Registries["reg.example"]: mirror 1: host "ftp://m.example": the scheme of its URL must be http or https`: {Registries: hosts(registry.Hosts{Mirrors: []registry.Host{{URL: "ftp://m.example"}}})},
		`Registries["reg.example"]: server: host "m.example": its URL must not have user info`:                     {Registries: hosts(registry.Hosts{Server: registry.Host{URL: "https://u:p@m.example"}})},
		`Registries["reg.example"]: server: host "m.example": its URL must not have a query or a fragment`:         {Registries: hosts(registry.Hosts{Server: registry.Host{URL: "https://m.example?a=b"}})},
		`Registries["reg.example"]: server: host "https://" is not a URL`:                                          {Registries: hosts(registry.Hosts{Server: registry.Host{URL: "https://"}})},
	} {
		_, err := registry.New(cfg)
		assert.ErrorContains(t, err, "registry: "+want)
	}
	_, err := registry.New(registry.Config{HostsReader: certsd.Dir("/does/not/exist"), Retries: -1, MaxWait: -1})
	assert.NoError(t, err, "files are read when a registry is asked")
}

// TestSettingsAreCopied: a caller that changes its Config after New does not change the
// Client.
func TestSettingsAreCopied(t *testing.T) {
	cfg := registry.Config{WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"http://reg.example": serveAll})), PlainHTTP: []string{"reg.example"},
		Registries: map[string]registry.Hosts{}}
	c := newClient(t, cfg)
	cfg.PlainHTTP[0] = "other.example"
	cfg.Registries["reg.example"] = registry.Hosts{Mirrors: []registry.Host{{URL: "ftp://m.example"}}}
	_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1")}, "")
	assert.NoError(t, err)
}
