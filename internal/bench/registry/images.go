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

// The sizes of the layers of tiny images: tinyBase of the layer that all share, and
// tinyLayer of the layer that each has for itself.
const (
	tinyBase  = 1 << 20
	tinyLayer = 4 << 10
)

// A maker makes images. The content of a blob depends only on how many were made before it.
type maker struct {
	store
	catalog
	seed uint64
}

// makeImages makes the images of specs in dir:
//
//	NAME=8x1048576          NAME:1 with 8 layers of 1 MiB
//	NAME=index:8x1048576    NAME:1, an index of five platforms, where amd64's has those layers
//	NAME=text:4x1048576     NAME:1 with 4 layers of text, in files of at most 1 MiB, deflated
//	NAME=hole:1048576       NAME:1 with one layer that begins as gzip does, and then has
//	                        only zeros, which take no room on the disk
//	NAME=tiny:2000          NAME:0 to NAME:1999, a small layer each and one they share
//	NAME=shared:20          NAME0:1 to NAME19:1, with one layer that they share
//
// It also writes the files of TLS.
func makeImages(dir string, specs []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := makeAuthority(dir); err != nil {
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
	kind, form, ok := strings.Cut(form, ":")
	if !ok {
		kind, form = "plain", kind
	}
	switch kind {
	case "plain", "index", "text":
		n, size, err := layers(form)
		if err != nil {
			return err
		}
		if kind == "text" {
			return m.text(name, n, size)
		}
		if kind == "index" {
			return m.index(name, n, size)
		}
		return m.plain(name, n, size)
	}
	n, err := strconv.ParseInt(form, 10, 64)
	if err != nil {
		return err
	}
	switch kind {
	case "hole":
		return m.hole(name, n)
	case "tiny":
		return m.tiny(name, int(n))
	case "shared":
		return m.shared(name, int(n))
	}
	return fmt.Errorf("no such kind: %q", kind)
}

// layers parses 8x1048576.
func layers(form string) (n int, size int64, err error) {
	count, bytes, _ := strings.Cut(form, "x")
	if n, err = strconv.Atoi(count); err != nil {
		return 0, 0, err
	}
	size, err = strconv.ParseInt(bytes, 10, 64)
	return n, size, err
}

func (m *maker) plain(name string, layers int, size int64) error {
	all, err := m.layers(layers, size)
	if err != nil {
		return err
	}
	desc, err := m.image("amd64", all)
	m.Tags[name+":1"] = desc.Digest
	return err
}

// layers stores n layers.
func (m *maker) layers(n int, size int64) ([]layer, error) {
	var all []layer
	for range n {
		l, err := m.layer(size)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func (m *maker) index(name string, layers int, size int64) error {
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, arch := range []string{"arm64", "s390x", "amd64", "ppc64le", "riscv64"} {
		n, bytes := 1, int64(tinyLayer)
		if arch == "amd64" {
			n, bytes = layers, size
		}
		all, err := m.layers(n, bytes)
		if err != nil {
			return err
		}
		desc, err := m.image(arch, all)
		if err != nil {
			return err
		}
		idx.Manifests = append(idx.Manifests, desc)
	}
	d, _, err := m.putJSON(idx)
	m.Tags[name+":1"], m.Manifests[d] = d, idx.MediaType
	return err
}

// text stores an image whose layers are text.
func (m *maker) text(name string, layers int, size int64) error {
	var all []layer
	for range layers {
		l, err := m.packed(size, writeText)
		if err != nil {
			return err
		}
		all = append(all, l)
	}
	desc, err := m.image("amd64", all)
	m.Tags[name+":1"] = desc.Digest
	return err
}

// hole stores an image of one layer without its content.
func (m *maker) hole(name string, size int64) error {
	start := []byte{0x1f, 0x8b, 8} // of a gzip stream, so that no client compresses the layer
	d, err := m.putHole(start, size)
	if err != nil {
		return err
	}
	l := layer{ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: size}, d}
	desc, err := m.image("amd64", []layer{l})
	m.Tags[name+":1"] = desc.Digest
	return err
}

// shared stores n images, each in a repository of its own. They have the same layer and
// different configs.
func (m *maker) shared(name string, n int) error {
	l, err := m.layer(tinyBase)
	if err != nil {
		return err
	}
	for i := range n {
		repository := fmt.Sprint(name, i)
		desc, err := m.authored(repository, "amd64", []layer{l})
		if err != nil {
			return err
		}
		m.Tags[repository+":1"] = desc.Digest
	}
	return nil
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
	return m.authored("", arch, layers)
}

func (m *maker) authored(author, arch string, layers []layer) (ocispec.Descriptor, error) {
	config := ocispec.Image{Author: author, Platform: ocispec.Platform{OS: "linux", Architecture: arch}}
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

// A layer is a blob, with the digest of its decompressed content.
type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
}

// layer stores a gzipped tar of one file of size random bytes. gzip stores them without
// compression. No client finds anything to compress or to skip.
func (m *maker) layer(size int64) (layer, error) { return m.packed(size, writeLayer) }

// packed stores a layer. write writes it from size bytes of content.
func (m *maker) packed(size int64, write func(w, diff io.Writer, seed uint64, size int64) error) (layer, error) {
	m.seed++
	diff := sha256.New()
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(write(w, diff, m.seed, size)) }()
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
	if err := archive.WriteHeader(&tar.Header{Name: fmt.Sprintf("data-%d", seed), Mode: 0o644, Size: size}); err != nil {
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

// textFile is the largest size of a file of text, in bytes.
const textFile = 1 << 20

// writeText writes a gzipped tar of files of words. The words are random, and some of them are
// much more frequent than others, so that they deflate to about a third, as text does.
func writeText(w, diff io.Writer, seed uint64, size int64) error {
	packed := gzip.NewWriter(w)
	archive := tar.NewWriter(io.MultiWriter(packed, diff))
	random := rand.New(rand.NewPCG(seed, 0))
	words := make([]string, 4000)
	for i := range words {
		word := make([]byte, 2+random.IntN(9))
		for j := range word {
			word[j] = byte('a' + random.IntN(26))
		}
		words[i] = string(word) + " "
	}
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "text/", Mode: 0o755}); err != nil {
		return err
	}
	text := make([]byte, 0, textFile+16)
	for n := 0; size > 0; n++ {
		length := min(size, textFile)
		for text = text[:0]; int64(len(text)) < length; {
			text = append(text, words[min(int(random.ExpFloat64()*600), len(words)-1)]...)
		}
		head := &tar.Header{Name: fmt.Sprintf("text/%d-%d", seed, n), Mode: 0o644, Size: length}
		if err := archive.WriteHeader(head); err != nil {
			return err
		}
		if _, err := archive.Write(text[:length]); err != nil {
			return err
		}
		size -= length
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return packed.Close()
}
