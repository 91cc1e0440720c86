package pullertest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/fakeregistry"
	"github.com/pullkit/pullkit/internal/verify"
)

// contents are a registry's repositories.
type contents struct {
	mu    sync.RWMutex
	repos map[string]*repository
}

type repository struct {
	blobs     map[digest.Digest]fakeregistry.Content
	manifests map[digest.Digest]fakeregistry.Content
	tags      map[string]digest.Digest
}

// repo returns a repository, and makes it if it is new. The caller holds c.mu for writing.
func (c *contents) repo(name string) *repository {
	if c.repos == nil {
		c.repos = map[string]*repository{}
	}
	if c.repos[name] == nil {
		c.repos[name] = &repository{map[digest.Digest]fakeregistry.Content{}, map[digest.Digest]fakeregistry.Content{}, map[string]digest.Digest{}}
	}
	return c.repos[name]
}

// PutBlob stores a blob in a repository ("team/app") and describes it. The
// registry keeps data; do not change it afterwards.
func (r *Registry) PutBlob(repository, mediaType string, data []byte) ocispec.Descriptor {
	b := fakeregistry.Content{MediaType: "application/octet-stream", Digest: fakeregistry.SHA256(data), Data: data}
	r.content.mu.Lock()
	defer r.content.mu.Unlock()
	r.content.repo(repository).blobs[b.Digest] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: b.Digest, Size: int64(len(data))}
}

// PutManifest stores a manifest or index and describes it. The name is "team/app:v1", or
// "team/app" for a document without a tag. A tag that exists is moved. The document is not
// checked. The registry keeps data; do not change it afterwards.
func (r *Registry) PutManifest(name, mediaType string, data []byte) ocispec.Descriptor {
	repository, tag := splitName(name)
	b := fakeregistry.Content{MediaType: mediaType, Digest: fakeregistry.SHA256(data), Data: data}
	r.content.mu.Lock()
	defer r.content.mu.Unlock()
	repo := r.content.repo(repository)
	repo.manifests[b.Digest] = b
	if tag != "" {
		repo.tags[tag] = b.Digest
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: b.Digest, Size: int64(len(data))}
}

// Remove makes the registry forget a tag ("team/app:v1"), or a blob or manifest
// ("team/app@sha256:..."). It does nothing if the registry does not have it.
func (r *Registry) Remove(name string) {
	r.content.mu.Lock()
	defer r.content.mu.Unlock()
	if repository, dgst, ok := strings.Cut(name, "@"); ok {
		repo := r.content.repo(repository)
		delete(repo.blobs, digest.Digest(dgst))
		delete(repo.manifests, digest.Digest(dgst))
		return
	}
	repository, tag := splitName(name)
	delete(r.content.repo(repository).tags, tag)
}

func splitName(name string) (repository, tag string) {
	repository, tag, _ = strings.Cut(name, ":")
	return repository, tag
}

func (c *contents) manifest(repository, ref string) (fakeregistry.Content, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	repo := c.repos[repository]
	if repo == nil {
		return fakeregistry.Content{}, false
	}
	dgst, ok := repo.tags[ref]
	if !ok {
		dgst = digest.Digest(ref)
	}
	return find(repo.manifests, dgst)
}

func (c *contents) blob(repository, ref string) (fakeregistry.Content, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	repo := c.repos[repository]
	if repo == nil {
		return fakeregistry.Content{}, false
	}
	return find(repo.blobs, digest.Digest(ref))
}

// find returns content by its digest, of any algorithm.
func find(in map[digest.Digest]fakeregistry.Content, dgst digest.Digest) (fakeregistry.Content, bool) {
	if b, ok := in[dgst]; ok {
		return b, true
	}
	if strings.HasPrefix(string(dgst), "sha256:") {
		return fakeregistry.Content{}, false
	}
	for _, b := range in {
		if verify.Bytes(dgst, b.Data) {
			b.Digest = dgst
			return b, true
		}
	}
	return fakeregistry.Content{}, false
}

func (c *contents) tags(repository string) ([]string, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	repo := c.repos[repository]
	if repo == nil {
		return nil, false
	}
	tags := make([]string, 0, len(repo.tags))
	for tag := range repo.tags {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return tags, true
}

// referrers lists the manifests of a repository whose subject is a digest, sorted by their
// digests. If artifactType is not "", only those of that type are listed.
func (c *contents) referrers(repository string, subject digest.Digest, artifactType string) []ocispec.Descriptor {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := []ocispec.Descriptor{} // [] in JSON
	repo := c.repos[repository]
	if repo == nil {
		return list
	}
	for _, b := range repo.manifests {
		var m ocispec.Manifest
		if json.Unmarshal(b.Data, &m) != nil || m.Subject == nil || m.Subject.Digest != subject {
			continue
		}
		kind := cmp.Or(m.ArtifactType, m.Config.MediaType)
		if artifactType == "" || kind == artifactType {
			list = append(list, ocispec.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: int64(len(b.Data)), ArtifactType: kind, Annotations: m.Annotations})
		}
	}
	slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return list
}

// An ImageSpec says what image PutImage makes. Equal ImageSpecs give equal digests.
type ImageSpec struct {
	// Platforms are those of the index, with one manifest each. If there are none, the
	// image is one manifest for linux/amd64 without an index.
	Platforms []ocispec.Platform
	// Layers are the sizes in bytes of the one file in each layer. The file has random
	// bytes, so the blob, a gzipped tar, is about 2 KiB larger.
	Layers []int64
	// Seed makes images differ: layers of different seeds, platforms or positions have
	// nothing in common.
	Seed uint64
}

// A PutResult describes the image that PutImage has made.
type PutResult struct {
	Descriptor ocispec.Descriptor   // of the index or manifest that the name points to
	Manifests  []ocispec.Descriptor // one for each platform, Platform set
	Blobs      []ocispec.Descriptor // each manifest's config and layers in turn
}

// PutImage makes an image and stores it under a name such as "team/app:v1".
func (r *Registry) PutImage(name string, image ImageSpec) (PutResult, error) {
	platforms := image.Platforms
	if len(platforms) == 0 {
		platforms = []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}
	}
	repository, _ := splitName(name)
	var result PutResult
	for i, platform := range platforms {
		manifest, err := r.putPlatform(repository, image, i, platform, &result)
		if err != nil {
			return PutResult{}, fmt.Errorf("image %q: %w", name, err)
		}
		if len(image.Platforms) == 0 {
			result.Descriptor = r.PutManifest(name, ocispec.MediaTypeImageManifest, manifest)
		} else {
			result.Descriptor = r.PutManifest(repository, ocispec.MediaTypeImageManifest, manifest)
		}
		described := result.Descriptor
		described.Platform = &platform
		result.Manifests = append(result.Manifests, described)
	}
	if len(image.Platforms) > 0 {
		data, err := json.Marshal(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageIndex,
			Manifests: result.Manifests,
		})
		if err != nil {
			return PutResult{}, fmt.Errorf("image %q: %w", name, err)
		}
		result.Descriptor = r.PutManifest(name, ocispec.MediaTypeImageIndex, data)
	}
	return result, nil
}

// putPlatform stores the blobs of one platform and returns its manifest.
func (r *Registry) putPlatform(repository string, image ImageSpec, position int, platform ocispec.Platform, result *PutResult) ([]byte, error) {
	var layers []ocispec.Descriptor
	var diffIDs []digest.Digest
	for i, size := range image.Layers {
		if size < 0 {
			return nil, fmt.Errorf("layer %d: size %d", i, size)
		}
		data, diffID, err := fakeregistry.Layer(size, image.Seed, uint64(position)<<32|uint64(i))
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		layers = append(layers, r.PutBlob(repository, ocispec.MediaTypeImageLayerGzip, data))
		diffIDs = append(diffIDs, diffID)
	}
	created := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	data, err := json.Marshal(ocispec.Image{
		Created:  &created,
		Platform: platform,
		Config:   ocispec.ImageConfig{Env: []string{"SEED=" + strconv.FormatUint(image.Seed, 10)}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
	})
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	config := r.PutBlob(repository, ocispec.MediaTypeImageConfig, data)
	result.Blobs = append(append(result.Blobs, config), layers...)
	return json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	})
}
