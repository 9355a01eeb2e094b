package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// cosigner verifies cosignature/v1 (type 0x04), which package note does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }
func (c *cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(sig)
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, msg)
	return time <= 1<<63-1 && ed25519.Verify(c.key, []byte(signed), sig[8:])
}

func newCosigner(vkey string) (*cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not a vkey")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 33 || raw[0] != 4 {
		return nil, errors.New("not a vkey of type 0x04")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), raw...))
	hash := binary.BigEndian.Uint32(sum[:4])
	if parts[1] != fmt.Sprintf("%08x", hash) {
		return nil, errors.New("wrong key id")
	}
	return &cosigner{parts[0], hash, raw[1:]}, nil
}

// accept opens a checkpoint: the log's own signature and a quorum of witnesses, each counted once.
func accept(raw []byte, r request) (string, tlog.Tree, int, error) {
	log, err := note.NewVerifier(r.Log)
	if err != nil {
		return "", tlog.Tree{}, 0, err
	}
	known := []note.Verifier{log}
	for _, vkey := range r.Witnesses {
		witness, err := newCosigner(vkey)
		if err != nil {
			return "", tlog.Tree{}, 0, err
		}
		known = append(known, witness)
	}
	opened, err := note.Open(raw, note.VerifierList(known...))
	if err != nil {
		return "", tlog.Tree{}, 0, err
	}
	logSigned, witnesses := false, 0
	for _, sig := range opened.Sigs {
		if sig.Name == log.Name() && sig.Hash == log.KeyHash() {
			logSigned = true
		} else {
			witnesses++
		}
	}
	if !logSigned {
		return "", tlog.Tree{}, 0, errors.New("the log did not sign")
	}
	if witnesses < r.Quorum {
		return "", tlog.Tree{}, 0, errors.New("no quorum")
	}
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	if origin != log.Name() {
		return "", tlog.Tree{}, 0, errors.New("another origin")
	}
	// Package tlog knows the checksum database's own checkpoints only; they differ in the first line.
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	if err == nil && strings.Count(rest, "\n") != 2 {
		err = errors.New("extension lines")
	}
	return origin, tree, len(opened.Sigs), err
}

func openNote(r request) (answer, error) {
	origin, tree, signers, err := accept(r.Note, r)
	return answer{Origin: origin, Size: tree.N, Root: tree.Hash[:], Signers: signers}, err
}

func hashes(raw [][]byte) ([]tlog.Hash, error) {
	var list []tlog.Hash
	for _, h := range raw {
		if len(h) != tlog.HashSize {
			return nil, errors.New("not a hash")
		}
		list = append(list, tlog.Hash(h))
	}
	return list, nil
}

func checkInclusion(r request) (answer, error) {
	path, err := hashes(append([][]byte{r.Root}, r.Path...))
	if err != nil {
		return answer{}, err
	}
	return answer{}, tlog.CheckRecord(path[1:], r.Size, path[0], r.Index, tlog.RecordHash(r.Entry))
}

func checkConsistency(r request) (answer, error) {
	path, err := hashes(append([][]byte{r.Root, r.OldRoot}, r.Path...))
	if err != nil {
		return answer{}, err
	}
	return answer{}, tlog.CheckTree(path[2:], r.Size, path[0], r.Old, path[1])
}

// checkProof verifies a c2sp.org/tlog-proof@v1 file for an entry.
func checkProof(r request) (answer, error) {
	head, checkpoint, found := bytes.Cut(r.Proof, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return answer{}, errors.New("not a tlog-proof")
	}
	lines = lines[1:]
	if extra, isExtra := strings.CutPrefix(lines[0], "extra "); isExtra {
		if _, err := base64.StdEncoding.DecodeString(extra); err != nil {
			return answer{}, err
		}
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return answer{}, errors.New("no index")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	if err != nil || lines[0] != fmt.Sprintf("index %d", index) {
		return answer{}, errors.New("malformed index")
	}
	var path tlog.RecordProof
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			return answer{}, err
		}
		path = append(path, h)
	}
	origin, tree, signers, err := accept(checkpoint, r)
	if err != nil {
		return answer{}, err
	}
	err = tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(r.Entry))
	return answer{Origin: origin, Size: tree.N, Root: tree.Hash[:], Signers: signers}, err
}
