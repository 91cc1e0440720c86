package index_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	typeIndex    = ocispec.MediaTypeImageIndex
	typeManifest = ocispec.MediaTypeImageManifest
	hexA         = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	configOK     = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hexA + `","size":2}`
)

func layer(digest, size string) string {
	return `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + digest + `","size":` + size + `}`
}

// manifest returns a manifest with these members, which are raw JSON.
func manifest(members ...string) string {
	return `{"schemaVersion":2,` + strings.Join(members, ",") + `}`
}

func config(d string) string          { return `"config":` + d }
func layers(list ...string) string    { return `"layers":[` + strings.Join(list, ",") + `]` }
func manifests(list ...string) string { return `"manifests":[` + strings.Join(list, ",") + `]` }

// TestParseRefusesHostileDocuments: Parse refuses the hostile documents of internal/scripted that it can
// recognise.
func TestParseRefusesHostileDocuments(t *testing.T) {
	good := layer("sha256:"+hexA, "5")
	digestOf := func(d string) string { return manifest(config(configOK), layers(good, layer(d, "5"))) }
	sizeOf := func(n string) string { return manifest(config(configOK), layers(layer("sha256:"+hexA, n))) }
	tests := []struct {
		name, contentType, body string
		rule                    index.Reason
		text                    string
	}{
		{"manifest-and-index", typeManifest, manifest(config(configOK), layers(good), manifests()), index.ErrBadManifest, "ambiguous: it has the keys of an index and of a manifest"},
		{"manifest-and-index without Content-Type", "", manifest(config(configOK), layers(good), manifests()), index.ErrBadIndex, "ambiguous: it has the keys of an index and of a manifest"},
		{"content-type-disagrees", typeIndex, manifest(`"mediaType":"`+typeManifest+`"`, config(configOK), layers(good)), index.ErrBadManifest, "the content type says an index, the mediaType in the document says a manifest"},
		{"content-type-disagrees by shape", typeIndex, manifest(config(configOK), layers(good)), index.ErrBadIndex, "the media type says an index, the keys are those of a manifest"},
		{"digest-traversal", typeManifest, digestOf("sha256:../../../../../../outside"), index.ErrBadDigest, `layers[1]: digest "sha256:../../../../../../outside": 25 hex digits, want 64`},
		{"digest-short", typeManifest, digestOf("sha256:abc123"), index.ErrBadDigest, `layers[1]: digest "sha256:abc123": 6 hex digits, want 64`},
		{"digest-query", typeManifest, digestOf("sha256:" + hexA + "?x=1"), index.ErrBadDigest, `layers[1]: digest "sha256:` + hexA + `?x=1": 68 hex digits, want 64`},
		{"digest-upper", typeManifest, digestOf("SHA256:" + hexA), index.ErrBadDigest, `layers[1]: digest "SHA256:` + hexA + `": unsupported digest algorithm (sha256, sha384 and sha512 can be verified)`},
		{"digest-unknown-algorithm", typeManifest, digestOf("md5:00000000000000000000000000000000"), index.ErrBadDigest, `layers[1]: digest "md5:00000000000000000000000000000000": unsupported digest algorithm (sha256, sha384 and sha512 can be verified)`},
		{"digest-empty", typeManifest, digestOf(""), index.ErrBadDigest, `layers[1]: digest "" has no algorithm`},
		{"digest-traversal-config", typeManifest, manifest(config(`{"digest":"../../outside","size":5}`), layers(good)), index.ErrBadDigest, `config: digest "../../outside" has no algorithm`},
		{"digest with control characters", typeManifest, digestOf(`sha256:\u001b[2J`), index.ErrBadDigest, `layers[1]: digest "sha256:\x1b[2J": 4 hex digits, want 64`},
		{"size-negative", typeManifest, sizeOf("-1"), index.ErrBadManifest, "layers[0]: size -1 is negative"},
		{"size-overflow", typeManifest, sizeOf("9223372036854775808"), index.ErrBadManifest, "layers[0].size: wrong type: want a whole number of 64 bits at byte "},
		{"size-fraction", typeManifest, sizeOf("1.5"), index.ErrBadManifest, "layers[0].size: wrong type: want a whole number of 64 bits at byte "},
		{"size-string", typeManifest, sizeOf(`"77"`), index.ErrBadManifest, "layers[0].size: wrong type: want a number, found a string at byte "},
		{"index-null-entries", typeIndex, manifest(`"manifests":null`), index.ErrBadIndex, "no manifests"},
		{"json-duplicate-key", typeManifest, manifest(config(configOK), layers(good), layers()), index.ErrBadManifest, "layers: duplicate key at byte "},
		{"json-duplicate-key in a layer", typeManifest, manifest(config(configOK), layers(`{"digest":"a","digest":"b"}`)), index.ErrBadManifest, "layers[0].digest: duplicate key at byte "},
		{"json-case-key", typeManifest, manifest(config(configOK), layers(good), `"LAYERS":[]`), index.ErrBadManifest, "layers: key in another case at byte "},
		{"json-case-key in a platform", typeIndex, manifest(manifests(`{"platform":{"OS":"linux"}}`)), index.ErrBadIndex, "manifests[0].platform.os: key in another case at byte "},
		{"duplicate annotation", typeIndex, manifest(manifests(`{"annotations":{"a":"1","a":"2"}}`)), index.ErrBadIndex, "manifests[0].annotations.*: duplicate key at byte "},
		{"json-deep", typeManifest, `{"schemaVersion":2,"x":` + strings.Repeat("[", 20000) + "}", index.ErrBadManifest, "nested too deeply"},
		{"json-trailing", typeManifest, manifest(config(configOK), layers(good)) + "{}", index.ErrBadManifest, "data after the document at byte "},
		{"schema1", "application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1,"fsLayers":[],"history":[]}`, index.ErrMediaType, "Docker's schema 1 is not supported"},
		{"schema1 served as schema 2", "application/vnd.docker.distribution.manifest.v2+json", `{"schemaVersion":1,"fsLayers":[],"history":[]}`, index.ErrMediaType, "Docker's schema 1 is not supported"},
		{"layer-count-huge", typeManifest, manifest(config(configOK), layers(strings.Split(strings.Repeat(good+"|", 3000), "|")[:3000]...)), index.ErrBadManifest, "3000 layers, at most 1024 are allowed"},
		{"no-json", "text/html", "<html>", index.ErrBadManifest, "bad JSON: want an object at byte 0"},
		{"config null", typeManifest, manifest(`"config":null`, layers(good)), index.ErrBadManifest, "no config or no layers"},
		{"layers missing", typeManifest, manifest(config(configOK)), index.ErrBadManifest, "no config or no layers"},
		{"too large", typeIndex, strings.Repeat(" ", index.MaxSize+1), index.ErrTooLarge, "document of 4194305 bytes, at most 4194304 are read"},
		{"artifact by content type", "application/vnd.oci.artifact.manifest.v1+json", `{"artifactType":"x/y","blobs":[]}`, index.ErrMediaType, "OCI artifact manifest, which is not an image; its format was withdrawn"},
		{"artifact only by content type", "application/vnd.oci.artifact.manifest.v1+json", `{"blobs":[]}`, index.ErrMediaType, "OCI artifact manifest"},
		{"artifact by its keys", ocispec.MediaTypeImageManifest, `{"artifactType":"x/y","blobs":[]}`, index.ErrMediaType, "OCI artifact manifest"},
		{"other media type", "", manifest(`"mediaType":"application/vnd.oci.artifact.manifest.v1+json"`), index.ErrMediaType, "OCI artifact manifest, which is not an image; its format was withdrawn"},
		{"unknown media type", "", manifest(`"mediaType":"application/vnd.example.manifest.v1+json"`), index.ErrMediaType, `unknown mediaType "application/vnd.example.manifest.v1+json"`},
		{"schemaVersion null", typeIndex, `{"schemaVersion":null,"manifests":[]}`, index.ErrBadIndex, "schemaVersion 0, want 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := index.Parse(tt.contentType, []byte(tt.body))
			assert.Nil(t, doc)
			require.ErrorIs(t, err, index.ErrInvalid)
			var bad *index.InvalidError
			require.ErrorAs(t, err, &bad)
			assert.Equal(t, tt.rule, bad.Reason)
			assert.Contains(t, bad.Detail, tt.text)
			assert.Equal(t, string(bad.Reason)+": "+bad.Detail, err.Error())
			assert.Less(t, len(err.Error()), 600)
		})
	}
}

// TestReasonsAreThoseOfContent: package content has the same reasons.
func TestReasonsAreThoseOfContent(t *testing.T) {
	for rule, kind := range map[index.Reason]content.Reason{
		index.ErrTooLarge: content.ErrTooLarge, index.ErrBadManifest: content.ErrBadManifest, index.ErrBadIndex: content.ErrBadIndex,
		index.ErrBadDigest: content.ErrBadDigest, index.ErrMediaType: content.ErrMediaType, index.ErrTooDeep: content.ErrTooDeep,
		index.ErrDigestMismatch: content.ErrDigestMismatch, index.ErrSizeMismatch: content.ErrSizeMismatch,
	} {
		assert.Equal(t, kind, content.Reason(rule))
	}
}

func TestParseAcceptsWhatIsUnusualAndClear(t *testing.T) {
	empty := `{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30="}`
	tests := []struct{ name, contentType, body, mediaType string }{
		{"OCI artifact", typeManifest, manifest(`"artifactType":"application/vnd.example.model"`, config(empty), layers(empty)), typeManifest},
		{"artifact by its config", typeManifest, manifest(config(`{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"sha256:`+hexA+`","size":5}`), layers()), typeManifest},
		{"layers null", "", manifest(config(configOK), `"layers":null`), typeManifest},
		{"the document's type wins over the server's", typeIndex, manifest(`"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"`, manifests()), "application/vnd.docker.distribution.manifest.list.v2+json"},
		{"type in capitals, with parameters", "Application/VND.OCI.image.index.v1+JSON; charset=utf-8", manifest(manifests()), typeIndex},
		{"broken parameters", typeIndex + "; =", manifest(manifests()), typeIndex},
		{"just small enough", typeIndex, manifest(manifests()) + strings.Repeat("\n", index.MaxSize-len(manifest(manifests()))), typeIndex},
		{"sha512", typeManifest, manifest(config(configOK), layers(layer("sha512:"+hexA+hexA, "5"))), typeManifest},
		{"the largest size, which the transfer refuses", typeManifest, manifest(config(configOK), layers(layer("sha256:"+hexA, "9223372036854775807"))), typeManifest},
		{"size-zero likewise", typeManifest, manifest(config(configOK), layers(layer("sha256:"+hexA, "0"))), typeManifest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := index.Parse(tt.contentType, []byte(tt.body))
			require.NoError(t, err)
			assert.Equal(t, tt.mediaType, doc.MediaType)
			assert.NotEqual(t, doc.Index == nil, doc.Manifest == nil)
		})
	}
}

// FuzzParse: encoding/json reads each document that Parse accepts as the same index or
// manifest, and its media type fits.
func FuzzParse(f *testing.F) {
	for _, c := range selectVectors(f) {
		if body := c.body(f); len(body) < 2000 {
			f.Add(c.ContentType, body)
		}
	}
	f.Add(typeManifest, []byte(manifest(config(configOK), layers(layer("sha256:"+hexA, "5")), `"annotations":{"a":"b"}`, `"subject":{"digest":"x"}`)))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		doc, err := index.Parse(contentType, body)
		if err != nil {
			require.ErrorIs(t, err, index.ErrInvalid)
			require.Nil(t, doc)
			return
		}
		if doc.Index != nil {
			var want ocispec.Index
			require.NoError(t, json.Unmarshal(body, &want))
			require.Equal(t, want, *doc.Index)
			require.Nil(t, doc.Manifest)
			for _, s := range []index.Selector{{}, {Strict: true}} {
				got, err := s.Select(*doc.Index, ocispec.Platform{OS: "linux", Architecture: "arm64"})
				if err == nil {
					require.Contains(t, doc.Index.Manifests, got.Descriptor)
				}
			}
			return
		}
		var want ocispec.Manifest
		require.NoError(t, json.Unmarshal(body, &want))
		require.Equal(t, want, *doc.Manifest)
	})
}

func TestConfigPlatformReadsStrictly(t *testing.T) {
	p, err := index.ConfigPlatform([]byte(`{"architecture":"arm","variant":"v6","os":"linux","os.version":"1","os.features":["a"],"config":{"Env":["X=1"]},"rootfs":{"type":"layers","diff_ids":[]}}`))
	require.NoError(t, err)
	assert.Equal(t, ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6", OSVersion: "1", OSFeatures: []string{"a"}}, p)
	for body, rule := range map[string]index.Reason{
		`{"os":5}`:                 index.ErrBadManifest,
		`{"os":"a","os":"b"}`:      index.ErrBadManifest,
		strings.Repeat(" ", 5<<20): index.ErrTooLarge,
	} {
		_, err := index.ConfigPlatform([]byte(body))
		var bad *index.InvalidError
		require.ErrorAs(t, err, &bad)
		assert.Equal(t, rule, bad.Reason)
	}
}

// TestNoMatchErrorIsEscapedAndCut: the text names the requested platform and the platforms of the index,
// and escapes what could harm a terminal or a log.
func TestNoMatchErrorIsEscapedAndCut(t *testing.T) {
	var idx ocispec.Index
	want := ocispec.Platform{OS: "linux", Architecture: "riscv64"}
	_, err := index.Selector{}.Select(idx, want)
	assert.EqualError(t, err, "no match for linux/riscv64; the index is empty")

	idx.Manifests = []ocispec.Descriptor{{MediaType: "application/example"}}
	_, err = index.Selector{}.Select(idx, want)
	assert.EqualError(t, err, "no match for linux/riscv64; no entry of the index is an image: media type is not an image's (1)")

	add := func(p ocispec.Platform) {
		idx.Manifests = append(idx.Manifests, ocispec.Descriptor{MediaType: typeManifest, Platform: &p})
	}
	add(ocispec.Platform{OS: "linux", Architecture: "amd64"})
	add(ocispec.Platform{OS: "lin\x1b[2J\nux", Architecture: "é/\u202e"})
	add(ocispec.Platform{OS: "linux", Architecture: "amd64"})
	add(ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10\n", OSFeatures: []string{"\"a b\""}})
	add(ocispec.Platform{OS: "linux", Architecture: strings.Repeat("x", 10000)})
	_, err = index.Selector{}.Select(idx, want)
	assert.EqualError(t, err, `no match for linux/riscv64; available: linux/amd64, lin\x1b[2J\x0aux/é/\u202e, `+
		`windows(10%0A+%22a%20b%22)/amd64, linux/`+strings.Repeat("x", 74)+"...")

	for i := range 1000 {
		add(ocispec.Platform{OS: "linux", Architecture: fmt.Sprint("a", i)})
	}
	_, err = index.Selector{}.Select(idx, want)
	assert.Contains(t, err.Error(), ", linux/a15 and 984 more")
	var none *index.NoMatchError
	require.ErrorAs(t, err, &none)
	assert.Len(t, none.Have, 1004)
	assert.Equal(t, want, none.Want)
}
