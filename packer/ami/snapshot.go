package ami

import (
	"context"
	"fmt"
	"os"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/packer/ami/blocks"
	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
	"github.com/ovenbird-dev/ovenbird/packer/ami/upload"
)

// scan hashes the disk.
func (b *build) scan(ctx context.Context) error {
	info, err := b.disk.Stat()
	if err != nil {
		return err
	}
	out, err := b.store.scratch()
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	b.ui.Say("Hashing " + b.disk.Name())
	m := newMeter(b.ui, "Hashing", info.Size())
	err = m.during(meterInterval, func() error {
		var count int
		b.content, count, err = blocks.Scan(ctx, b.disk, out, func(offset int64) { m.done.Store(offset) })
		m.done.Store(int64(count) * blocks.Size)
		return err
	})
	if err != nil {
		return err
	}
	path := b.store.mapOf(b.account, b.home.name, b.content)
	if err := out.Sync(); err != nil {
		return fmt.Errorf("keep the block map: %w", err)
	}
	if err := os.Rename(out.Name(), path); err != nil {
		return fmt.Errorf("keep the block map: %w", err)
	}
	b.blocks, err = blocks.OpenMap(path)
	return err
}

// snapshot uploads the disk, or what an earlier process has not.
func (b *build) snapshot(ctx context.Context) error {
	if _, ok := b.image(b.home.name); ok {
		return nil
	}
	snapshot, parent, err := b.resume(ctx)
	if err != nil {
		return err
	}
	again := snapshot.ID != ""
	uploader := b.home.uploader(b.config.MaxConcurrency)
	if !again {
		if snapshot, parent, err = b.start(ctx, uploader); err != nil {
			return err
		}
	}
	if !snapshot.Done {
		if err := b.send(ctx, uploader, snapshot, parent, again); err != nil {
			return err
		}
		snapshot.Done = true
		if err := b.journal.Have(snapshot); err != nil {
			return err
		}
	}
	return nil
}

// resume finds the snapshot that the journal speaks of, if it can still be gone on with.
func (b *build) resume(ctx context.Context) (journal.Resource, *blocks.Map, error) {
	none := journal.Resource{}
	snapshot, ok := b.journal.Find(journal.Snapshot, b.home.name, "")
	if !ok || snapshot.ID == "" {
		return none, nil, nil
	}
	state, _, err := b.home.uploader(0).State(ctx, snapshot.ID)
	var parent *blocks.Map
	usable := err == nil && (state == ec2types.SnapshotStatePending || state == ec2types.SnapshotStateCompleted)
	if usable && snapshot.Parent != "" {
		m, failed := blocks.OpenMap(b.store.snapshotMap(b.home.name, snapshot.Parent, b.config.encryption()))
		usable, parent = failed == nil, &m
	}
	if usable {
		return snapshot, parent, nil
	}
	if err != nil && retry.Code(err) != "InvalidSnapshot.NotFound" {
		return none, nil, err
	}
	b.ui.Say(fmt.Sprintf("Starting afresh, as snapshot %s cannot be gone on with", snapshot.ID))
	return none, nil, b.cloud.undo(ctx, b.journal.Build().ID, []journal.Resource{snapshot}, b.journal.Gone)
}

// start asks for a snapshot. The journal has its token first: whoever goes on after a
// crash asks with the same token, and gets the same snapshot.
func (b *build) start(ctx context.Context, uploader upload.Uploader) (journal.Resource, *blocks.Map, error) {
	snapshot, asked := b.journal.Find(journal.Snapshot, b.home.name, "")
	var parent *blocks.Map
	if !asked {
		id, m, err := b.store.parent(ctx, b.home, b.config, b.blocks, b.wish.diskGiB)
		if err != nil {
			return snapshot, nil, err
		}
		snapshot = journal.Resource{Kind: journal.Snapshot, Region: b.home.name, Token: uuid.NewString(), Parent: id}
		if id != "" {
			parent = &m
		}
		snapshot.Time = time.Now().UTC()
		if err := b.journal.Have(snapshot); err != nil {
			return snapshot, nil, err
		}
	} else if snapshot.Parent != "" {
		m, err := blocks.OpenMap(b.store.snapshotMap(b.home.name, snapshot.Parent, b.config.encryption()))
		if err != nil {
			return snapshot, nil, err
		}
		parent = &m
	}
	id, err := b.ask(ctx, uploader, snapshot)
	if err != nil && !asked && refusal(err) && snapshot.Parent != "" && b.config.ParentSnapshot == parentAuto {
		// Its key may be disabled, or the account encrypts by now what was not encrypted then.
		b.ui.Say(fmt.Sprintf("Starting from nothing, as %s cannot be the parent: %v", snapshot.Parent, err))
		snapshot.Token, snapshot.Parent, parent = uuid.NewString(), "", nil
		if err := b.journal.Have(snapshot); err != nil {
			return snapshot, nil, err
		}
		id, err = b.ask(ctx, uploader, snapshot)
	}
	if err != nil {
		return snapshot, nil, b.refused(snapshot, asked, err)
	}
	snapshot.ID = id
	return snapshot, parent, b.journal.Have(snapshot)
}

func (b *build) ask(ctx context.Context, uploader upload.Uploader, snapshot journal.Resource) (id string, err error) {
	return uploader.Start(ctx, upload.Snapshot{
		Token: snapshot.Token, VolumeGiB: b.wish.diskGiB, Description: "Ovenbird disk " + b.content[:16],
		Parent: snapshot.Parent, Encrypted: b.config.Encrypt, KMSKey: b.config.KMSKeyID, Tags: b.marks(b.home.name),
	})
}

// send sends the blocks and seals the snapshot.
func (b *build) send(ctx context.Context, uploader upload.Uploader, snapshot journal.Resource, parent *blocks.Map, again bool) error {
	writes := b.blocks.All()
	from := ""
	if parent != nil {
		writes = blocks.Changes(b.blocks.All(), parent.All())
		from = ", which starts as " + snapshot.Parent
	}
	total, err := blocks.Add(writes)
	if err != nil {
		return err
	}
	left := 0
	for block, err := range writes {
		if err != nil {
			return err
		}
		if !b.journal.WasSent(block.Index) {
			left++
		}
	}
	b.ui.Say(fmt.Sprintf("Uploading %d of the disk's %d blocks with data to snapshot %s%s", left, b.blocks.Blocks, snapshot.ID, from))
	m := newMeter(b.ui, "Uploading", int64(left)*blocks.Size)
	err = m.during(meterInterval, func() error {
		return uploader.Send(ctx, upload.Job{
			Snapshot: snapshot.ID, Started: snapshot.Time, Disk: b.disk, Blocks: writes, WasSent: b.journal.WasSent,
			Sent: func(index int32) error {
				m.done.Add(blocks.Size)
				return b.journal.Sent(index)
			},
		})
	})
	if err != nil {
		return err
	}
	return uploader.Complete(ctx, upload.Seal{Snapshot: snapshot.ID, Started: snapshot.Time, Total: total, Again: again})
}

// remember keeps the disk's block map as that of its snapshot, for later builds, or drops
// it. The image is finished: without the map a later build uploads more, and that is all.
func (b *build) remember() {
	keep := func() error { return b.store.forget(b.blocks.Path) }
	if snapshot, ok := b.journal.Find(journal.Snapshot, b.home.name, ""); ok && snapshot.Done {
		keep = func() error { return b.store.remember(b.home.name, snapshot.ID, b.config.encryption(), b.blocks) }
	}
	if err := keep(); err != nil {
		b.ui.Say(fmt.Sprintf("The next build of a similar disk uploads all of it: %v", err))
	}
}
