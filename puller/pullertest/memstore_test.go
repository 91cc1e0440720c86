package pullertest

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMemStoreRefusesWrongDigestsSizesAndBytes(t *testing.T) {
	ctx := t.Context()
	var m MemStore
	desc, data := testBlob(1, 10)
	short := desc
	short.Digest = "sha256:abc"
	_, err := m.Ingest(ctx, short)
	assert.ErrorIs(t, err, content.ErrBadDigest)
	negative := desc
	negative.Size = -1
	_, err = m.Ingest(ctx, negative)
	assert.ErrorIs(t, err, content.ErrSizeMismatch)

	ingest, err := m.Ingest(ctx, desc)
	require.NoError(t, err)
	_, err = ingest.WriteAt(data, 1)
	assert.ErrorIs(t, err, content.ErrSizeMismatch)
	_, err = ingest.WriteAt(data[:5], 0)
	require.NoError(t, err)
	assert.ErrorIs(t, ingest.Commit(ctx), content.ErrSizeMismatch)
	_, err = ingest.WriteAt([]byte("wrong"), 5)
	require.NoError(t, err)
	assert.ErrorIs(t, ingest.Commit(ctx), content.ErrDigestMismatch)
	require.NoError(t, ingest.Discard())
	_, err = ingest.WriteAt(data, 0)
	assert.Error(t, err)
	_, err = ingest.ReadAt(data, 0)
	assert.Error(t, err)
	assert.Error(t, ingest.Commit(ctx))
	_, err = m.Open(ctx, desc)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestMemStoreInOrderNamesTheNextByte(t *testing.T) {
	ctx := t.Context()
	m := MemStore{InOrder: true}
	desc, data := testBlob(1, 10)
	ingest, err := m.Ingest(ctx, desc)
	require.NoError(t, err)
	_, err = ingest.WriteAt(data[:4], 0)
	require.NoError(t, err)
	_, err = ingest.WriteAt(data[5:], 5)
	assert.EqualError(t, err, "store failure: the store takes bytes only in order: byte 4 is next, not byte 5")
	_, err = ingest.ReadAt(data, 0)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = ingest.WriteAt(append(data[4:], 0), 4)
	assert.ErrorIs(t, err, content.ErrSizeMismatch)
	require.NoError(t, ingest.Close())
	_, err = ingest.WriteAt(data[4:], 4)
	assert.Error(t, err)
}
