package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// sizes of the tiny images' layers: one shared by all, one of each.
const (
	tinyBase  = 1 << 20
	tinyLayer = 4 << 10
)

// A maker makes images. Content follows from the order in which it is asked for.
type maker struct {
	store
	catalog
	seed uint64
}

// makeImages fills dir with the images that specs ask for:
//
//	NAME=8x1048576       NAME:1 with 8 layers of 1 MiB
//	NAME=index:1048576   NAME:1, an index of five platforms with one layer each
//	NAME=tiny:2000       NAME:0 to NAME:1999, a small layer each and one they share
func makeImages(dir string, specs []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	m := maker{store{dir}, catalog{map[string]digest.Digest{}, map[digest.Digest]string{}}, 0}
	for _, spec := range specs {
		if err := m.make(spec); err != nil {
			return fmt.Errorf("image %q: %w", spec, err)
		}
	}
	return m.save(m.catalog)
}

func (m *maker) make(spec string) error {
	name, form, _ := strings.Cut(spec, "=")
	if size, ok := strings.CutPrefix(form, "index:"); ok {
		bytes, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return err
		}
		return m.index(name, bytes)
	}
	if count, ok := strings.CutPrefix(form, "tiny:"); ok {
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		return m.tiny(name, n)
	}
	count, size, _ := strings.Cut(form, "x")
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	bytes, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	return m.plain(name, n, bytes)
}

func (m *maker) plain(name string, layers int, size int64) error {
	var all []layer
	for range layers {
		l, err := m.layer(size)
		if err != nil {
			return err
		}
		all = append(all, l)
	}
	desc, err := m.image("amd64", all)
	m.Tags[name+":1"] = desc.Digest
	return err
}

func (m *maker) index(name string, size int64) error {
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, arch := range []string{"arm64", "s390x", "amd64", "ppc64le", "riscv64"} {
		l, err := m.layer(size)
		if err != nil {
			return err
		}
		desc, err := m.image(arch, []layer{l})
		if err != nil {
			return err
		}
		idx.Manifests = append(idx.Manifests, desc)
	}
	d, _, err := m.putJSON(idx)
	m.Tags[name+":1"], m.Manifests[d] = d, idx.MediaType
	return err
}

func (m *maker) tiny(name string, n int) error {
	base, err := m.layer(tinyBase)
	if err != nil {
		return err
	}
	for i := range n {
		own, err := m.layer(tinyLayer)
		if err != nil {
			return err
		}
		desc, err := m.image("amd64", []layer{base, own})
		if err != nil {
			return err
		}
		m.Tags[fmt.Sprintf("%s:%d", name, i)] = desc.Digest
	}
	return nil
}

// image stores the config and the manifest of an image.
func (m *maker) image(arch string, layers []layer) (ocispec.Descriptor, error) {
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}}
	config.RootFS.Type = "layers"
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		manifest.Layers = append(manifest.Layers, l.desc)
	}
	d, size, err := m.putJSON(config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: d, Size: size}
	if d, size, err = m.putJSON(manifest); err != nil {
		return ocispec.Descriptor{}, err
	}
	m.Manifests[d] = manifest.MediaType
	return ocispec.Descriptor{MediaType: manifest.MediaType, Digest: d, Size: size, Platform: &config.Platform}, nil
}

// A layer is a blob and the digest of what it unpacks to.
type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
}

// layer stores a gzipped tar of one file of size random bytes. It is stored, not
// deflated, by gzip: no client finds anything to compress or to skip.
func (m *maker) layer(size int64) (layer, error) {
	m.seed++
	diff := sha256.New()
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(writeLayer(w, diff, m.seed, size)) }()
	d, n, err := m.put(r)
	return layer{
		desc:   ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: n},
		diffID: digest.NewDigest(digest.SHA256, diff),
	}, err
}

func writeLayer(w, diff io.Writer, seed uint64, size int64) error {
	packed, err := gzip.NewWriterLevel(w, gzip.NoCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(io.MultiWriter(packed, diff))
	if err := archive.WriteHeader(&tar.Header{Name: "data", Mode: 0o644, Size: size}); err != nil {
		return err
	}
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	if _, err := io.CopyBuffer(archive, io.LimitReader(rand.NewChaCha8(key), size), make([]byte, 64<<10)); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return packed.Close()
}
