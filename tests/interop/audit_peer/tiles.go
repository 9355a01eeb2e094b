package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// c2sp gives the path of tlog-tiles, which has no height in it and calls bundles of entries "entries".
func c2sp(t tlog.Tile) string {
	path := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", height))
	if rest, isData := strings.CutPrefix(path, "data/"); isData {
		path = "entries/" + rest
	}
	return "tile/" + path
}

// folder reads tiles for tlog.TileHashReader, which authenticates every one against the tree's root.
type folder string

func (f folder) Height() int                        { return height }
func (f folder) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (f folder) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, t := range tiles {
		raw, err := os.ReadFile(filepath.Join(string(f), c2sp(t)))
		if err != nil {
			return nil, err
		}
		data = append(data, raw)
	}
	return data, nil
}

func (f folder) accept(r request) (string, tlog.Tree, error) {
	raw, err := os.ReadFile(filepath.Join(string(f), "checkpoint"))
	if err != nil {
		return "", tlog.Tree{}, err
	}
	origin, tree, _, err := accept(raw, r)
	return origin, tree, err
}

func path(list []tlog.Hash) (raw [][]byte) {
	for _, h := range list {
		raw = append(raw, h[:])
	}
	return raw
}

func proveInclusion(r request) (answer, error) {
	_, tree, err := folder(r.Dir).accept(r)
	if err != nil {
		return answer{}, err
	}
	proof, err := tlog.ProveRecord(tree.N, r.Index, tlog.TileHashReader(tree, folder(r.Dir)))
	return answer{Size: tree.N, Root: tree.Hash[:], Path: path(proof)}, err
}

func proveConsistency(r request) (answer, error) {
	_, tree, err := folder(r.Dir).accept(r)
	if err != nil {
		return answer{}, err
	}
	proof, err := tlog.ProveTree(tree.N, r.Old, tlog.TileHashReader(tree, folder(r.Dir)))
	return answer{Size: tree.N, Root: tree.Hash[:], Path: path(proof)}, err
}

// fsck hashes every entry and every tile up to the checkpoint's root.
func fsck(r request) (answer, error) {
	began := time.Now()
	origin, tree, err := folder(r.Dir).accept(r)
	if err != nil {
		return answer{}, err
	}
	read := tlog.TileHashReader(tree, folder(r.Dir))
	for first := int64(0); first < tree.N; first += 1 << height {
		width := min(1<<height, int(tree.N-first))
		t := tlog.Tile{H: height, L: -1, N: first >> height, W: width}
		raw, err := os.ReadFile(filepath.Join(r.Dir, c2sp(t)))
		if err != nil {
			return answer{}, err
		}
		indexes := make([]int64, width)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
		}
		stored, err := read.ReadHashes(indexes) // and with them the tile, up to the root
		if err != nil {
			return answer{}, err
		}
		for i := range width {
			if len(raw) < 2 || len(raw)-2 < int(binary.BigEndian.Uint16(raw)) {
				return answer{}, errors.New("a bundle is cut")
			}
			end := 2 + int(binary.BigEndian.Uint16(raw))
			if tlog.RecordHash(raw[2:end]) != stored[i] {
				return answer{}, fmt.Errorf("entry %d is not the tree's", first+int64(i))
			}
			raw = raw[end:]
		}
		if len(raw) != 0 {
			return answer{}, errors.New("bytes after a bundle")
		}
	}
	return answer{Origin: origin, Size: tree.N, Root: tree.Hash[:], Seconds: time.Since(began).Seconds()}, nil
}

// write makes a log of its own in dir, from the entries given, signed by the signer given.
func write(r request) (answer, error) {
	signer, err := note.NewSigner(r.Signer)
	if err != nil {
		return answer{}, err
	}
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) (list []tlog.Hash, err error) {
		for _, i := range indexes {
			list = append(list, stored[i])
		}
		return list, nil
	})
	for n, entry := range r.Entries {
		more, err := tlog.StoredHashes(int64(n), entry, read)
		if err != nil {
			return answer{}, err
		}
		stored = append(stored, more...)
	}
	size := int64(len(r.Entries))
	for _, t := range tlog.NewTiles(height, 0, size) {
		data, err := tlog.ReadTileData(t, read)
		if err == nil {
			err = save(r.Dir, c2sp(t), data)
		}
		if err != nil {
			return answer{}, err
		}
		if t.L != 0 {
			continue
		}
		t.L = -1
		var bundle []byte
		for _, entry := range r.Entries[t.N<<height:][:t.W] {
			bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
			bundle = append(bundle, entry...)
		}
		if err := save(r.Dir, c2sp(t), bundle); err != nil {
			return answer{}, err
		}
	}
	root, err := tlog.TreeHash(size, read)
	if err != nil {
		return answer{}, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), size, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return answer{}, err
	}
	return answer{Size: size, Root: root[:], Note: signed}, save(r.Dir, "checkpoint", signed)
}

func save(dir, path string, data []byte) error {
	path = filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
