/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The disk format of a cowsnap store, version 1. The only description of it:
 * kernel module, daemon and tools include this file; it knows nobody.
 *
 * Everything is little-endian and counted in blocks of 4 KiB. Every structure
 * carries a magic number, the store's UUID, a number that tells newer from
 * older, and a CRC32C (Castagnoli, reflected, initial value and final xor
 * 0xffffffff: the "crc32c" of iSCSI, RFC 3720 B.4). A CRC covers the whole
 * structure with the crc field taken as zero.
 *
 * Layout, from block 0:
 *
 *   0                        superblock, copy 0
 *   COWSNAP_SUPER_COPY_BLOCK superblock, copy 1
 *   control_block            control record: two checkpoint slots of
 *                            checkpoint_blocks each, then the journal of
 *                            journal_blocks
 *   slot_block               two metadata slots of slot_blocks each
 *   region[0].table_block    segment table of the first region, then its
 *                            segments; each extension adds a region, with
 *                            its own table in front of its segments
 *
 * What makes it crash-proof, structure by structure:
 *
 *   superblock   the second copy is written when the first one is durable; a
 *                copy that a failed write may have torn is written first
 *   table        each table block stands twice, side by side; the first copy
 *                is durable before the second is written; a segment is used
 *                only when both are. Owners are never taken back on disk: a
 *                segment is free when its owner is not in the control record
 *   control      a transaction is one journal write that holds each of its
 *                blocks twice; it is there when one copy of each is valid.
 *                Transactions are numbered without gaps
 *   log          the batches of one log carry consecutive sequence numbers and
 *                are released in that order. The first that does not check ends
 *                the log, unless something proves it was durable (a later
 *                durable_sequence, or the control record): then it is damage.
 *                The block that the log ends at is made zero before anything
 *                else is written there: half a header would be a whole one with
 *                the other half of the next. What is behind it may stay where it
 *                is, with a smaller activation, and its sequences are used again:
 *                the log's next segment begins with segment_sequence, whatever a
 *                segment before it seems to have from there on
 */
#ifndef COWSNAP_DISK_H
#define COWSNAP_DISK_H

#include <linux/types.h>

#define COWSNAP_FORMAT_VERSION 1
#define COWSNAP_DISK_BLOCK_SIZE 4096
#define COWSNAP_UUID_SIZE 16

/* First eight bytes of each structure, as little-endian numbers. */
#define COWSNAP_MAGIC_SUPER 0x31706e73776f63ffULL /* \xff "cowsnp1" */
#define COWSNAP_MAGIC_TABLE 0x316c62745f7763ffULL
#define COWSNAP_MAGIC_CHECKPOINT 0x31706b635f7763ffULL
#define COWSNAP_MAGIC_JOURNAL 0x316c6e6a5f7763ffULL
#define COWSNAP_MAGIC_BATCH 0x316874625f7763ffULL
#define COWSNAP_MAGIC_SUMMARY 0x316d75735f7763ffULL
#define COWSNAP_MAGIC_SLOT 0x31746c735f7763ffULL
#define COWSNAP_MAGIC_MARKER 0x316b726d5f7763ffULL

#define COWSNAP_SUPER_COPY_BLOCK 16
#define COWSNAP_MAX_REGIONS 128

/* Stored where a sequence, block or number is unknown or there is none. */
#define COWSNAP_NONE 0xffffffffffffffffULL

/* ---------------------------------------------------------- superblock --- */

/*
 * Feature bits. A bit of "incompatible" that is not known: the store is
 * refused; of "ro_compatible": it may only be read; of "compatible": ignored.
 */
#define COWSNAP_FEATURES_COMPATIBLE 0ULL
#define COWSNAP_FEATURES_RO_COMPATIBLE 0ULL
#define COWSNAP_FEATURES_INCOMPATIBLE 0ULL

struct cowsnap_disk_region {
	__le64 table_block; /* first block of the region: its segment table */
	__le64 segment_block; /* first block of its first segment */
	__le64 segments; /* number of segments, at least 1 */
} __attribute__((packed));

struct cowsnap_disk_super {
	__le64 magic;
	__le32 crc;
	__le32 version; /* COWSNAP_FORMAT_VERSION */
	__u8 uuid[COWSNAP_UUID_SIZE];
	__le64 generation; /* counts the writes of the superblock */
	__le64 compatible;
	__le64 ro_compatible;
	__le64 incompatible;
	__le64 store_blocks; /* blocks of the device that are used */
	__le64 control_block;
	__le32 checkpoint_blocks;
	__le32 journal_blocks;
	__le64 slot_block;
	__le32 slot_blocks;
	__le32 segment_blocks; /* power of two, 16 to 256 */
	__le32 regions; /* 1 to COWSNAP_MAX_REGIONS */
	__u8 reserved[404];
	struct cowsnap_disk_region region[COWSNAP_MAX_REGIONS];
	__u8 reserved2[512];
} __attribute__((packed));

/* -------------------------------------------------------- segment table --- */

enum cowsnap_owner_kind {
	COWSNAP_OWNER_FREE = 0, /* generation stays: it is never used again */
	COWSNAP_OWNER_EPOCH = 1, /* exceptions of an origin's epoch */
	COWSNAP_OWNER_OVERLAY = 2, /* the overlay of the snapshot with this epoch */
};

struct cowsnap_disk_segment {
	__le32 kind; /* enum cowsnap_owner_kind */
	__le32 origin; /* origin id */
	__le64 epoch;
	__le64 generation; /* unique number of this allocation, rising in time */
	__le64 reserved;
} __attribute__((packed));

#define COWSNAP_SEGMENTS_PER_TABLE_BLOCK 126

/* Table block t of a region stands at table_block + 2t and + 2t + 1. */
struct cowsnap_disk_table {
	__le64 magic;
	__le32 crc;
	__le32 reserved;
	__u8 uuid[COWSNAP_UUID_SIZE];
	__le64 generation; /* counts the writes of this table block */
	__le64 first_segment; /* number of segment[0] in the store */
	__u8 reserved2[16];
	struct cowsnap_disk_segment segment[COWSNAP_SEGMENTS_PER_TABLE_BLOCK];
} __attribute__((packed));

/* ------------------------------------------------------- control record --- */

enum cowsnap_op {
	/* origin, size_sectors */
	COWSNAP_OP_ORIGIN = 1,
	/* origin */
	COWSNAP_OP_FORGET = 2,
	/* snapshot, origin, epoch, sequence, created, set */
	COWSNAP_OP_CREATE = 3,
	/* snapshot */
	COWSNAP_OP_DELETE = 4,
	/*
	 * epoch: the next free epoch number; set: the next free set number;
	 * activation: the activation count. Written at each activation and into
	 * each checkpoint
	 */
	COWSNAP_OP_COUNTERS = 5,
	/* snapshot: it is not exact any more, reads of it are EIO */
	COWSNAP_OP_LOST = 6,
	/*
	 * origin; by which a later activation finds out that the origin was written
	 * while no cow-origin was in front of it. In checkpoints behind its ORIGIN.
	 * With COWSNAP_OP_FLAG_IN_FRONT: one is in front. epoch, sequence: two
	 *   narrow fingerprints; each half of the origin's is that of one of them.
	 *   created, set: two fingerprints of the places that are watched, of which
	 *   that of the origin is one; COWSNAP_NONE for one of them: it may be any
	 * with COWSNAP_OP_FLAG_LEFT: none is. epoch: the wide fingerprint;
	 *   sequence: the number of the device's disk (diskseq); size_sectors: how
	 *   many were written to the device, by the kernel's count, or COWSNAP_NONE;
	 *   created: the wide fingerprint of the places that are watched
	 * with neither: nothing is known
	 *
	 * Narrow fingerprint: CRC32C of the first 512 bytes where they begin with
	 * "XFSB" (upper half), and of these fields of an ext2, ext3 or ext4 superblock
	 * (lower half): s_blocks_count_lo, s_mtime, s_mnt_count, s_lastcheck, the bit
	 * "needs recovery" of s_feature_incompat as one byte, s_uuid. Half of it is 0
	 * without that file system, and 1 where the CRC is 0.
	 * Wide fingerprint: CRC32C of the first COWSNAP_WIDE_HEAD_SECTORS (upper half)
	 * and of the last COWSNAP_WIDE_TAIL_SECTORS (lower half).
	 * Of the places that are watched, in their order, 0 without any: the upper half is
	 * a CRC32C, from 0 on, over each place's sector and upper half, 8 and 4 bytes,
	 * little-endian; the lower one the same of the lower halves. Narrow: a place's
	 * halves are those above, of what begins there, or, of a place with
	 * COWSNAP_OP_FLAG_RAW, CRC32C of its sectors 0 and 2, and 0 of one that is zero.
	 * Wide: both halves are CRC32C of its first COWSNAP_WIDE_PLACE_SECTORS. What would
	 * be COWSNAP_NONE is one less.
	 */
	COWSNAP_OP_FRONT = 7,
	/* origin: it was; none of the snapshots that it has now is exact */
	COWSNAP_OP_STALE = 8,
	/*
	 * origin, snapshot: the origin goes back to this snapshot of it. In checkpoints
	 * behind its snapshots. Replaces the rollback that the origin had.
	 * set: id of the snapshot of what was there before, or 0: there is none, a
	 *   rollback to it was cancelled by this one.
	 * With COWSNAP_OP_FLAG_SCHEDULED: when the origin is activated the next time; the
	 *   snapshot "set" is not there yet. Deleting the snapshot ends it. With
	 *   COWSNAP_OP_FLAG_FORCE, too: although it is stale.
	 * Without it: it runs. epoch: owns the segments (of kind OVERLAY) with what was
	 *   written meanwhile; sequence: all blocks of the origin below this one are right
	 *   in the origin, durably, but for the first COWSNAP_MARKER_BLOCKS
	 */
	COWSNAP_OP_ROLLBACK = 9,
	/* origin: its rollback is over, or not scheduled any more */
	COWSNAP_OP_ROLLBACK_END = 10,
	/*
	 * origin; epoch: a sector of it with which something begins that is written as a
	 * device of its own (a partition, a volume); sequence: its index among those
	 * that are watched, 0 begins the list anew. In front of the FRONT that is of the
	 * list. With COWSNAP_OP_FLAG_RAW: what is there is encrypted.
	 */
	COWSNAP_OP_WATCH = 11,
};

struct cowsnap_disk_op {
	__le32 op; /* enum cowsnap_op */
	__le32 snapshot; /* snapshot id */
	__le32 origin; /* origin id */
	__le32 flags; /* COWSNAP_OP_FLAG_* */
	__le64 epoch; /* unique in the store, rising in time */
	__le64 sequence; /* of the origin's log: first one of this epoch */
	__le64 size_sectors;
	__le64 created; /* seconds since 1970 */
	__le64 set;
	__le64 activation;
} __attribute__((packed));

#define COWSNAP_OP_FLAG_DROPPED 1u /* with DELETE: for room, not on request */
#define COWSNAP_OP_FLAG_STALE 2u /* with CREATE, in checkpoints: there was a STALE */
#define COWSNAP_OP_FLAG_IN_FRONT 4u /* with FRONT */
#define COWSNAP_OP_FLAG_LEFT 8u /* with FRONT */
#define COWSNAP_OP_FLAG_SCHEDULED 16u /* with ROLLBACK */
#define COWSNAP_OP_FLAG_FORCE 32u /* with ROLLBACK and SCHEDULED */
#define COWSNAP_OP_FLAG_RAW 64u /* with WATCH */

#define COWSNAP_WIDE_HEAD_SECTORS 2048u
#define COWSNAP_WIDE_TAIL_SECTORS 128u
#define COWSNAP_WIDE_PLACE_SECTORS 128u

#define COWSNAP_OPS_PER_BLOCK 63
#define COWSNAP_TRANSACTION_MAX_BLOCKS 16

/*
 * Block i of n of a transaction. In the journal the blocks of a transaction
 * stand as 0 0 1 1 ... n-1 n-1. The journal starts again at its first block
 * after each checkpoint.
 */
struct cowsnap_disk_journal {
	__le64 magic;
	__le32 crc;
	__le16 index; /* i */
	__le16 count; /* n, 1 to COWSNAP_TRANSACTION_MAX_BLOCKS */
	__u8 uuid[COWSNAP_UUID_SIZE];
	__le64 transaction; /* number; the first after a checkpoint T is T + 1 */
	__le32 ops; /* used in this block, 0 to COWSNAP_OPS_PER_BLOCK */
	__u8 reserved[20];
	struct cowsnap_disk_op op[COWSNAP_OPS_PER_BLOCK];
} __attribute__((packed));

/*
 * First block of a checkpoint slot; the ops, packed, start in the block
 * behind it. Replayed on an empty state they give the state after
 * "transaction". Slot transaction-parity is free: the older one is overwritten.
 */
struct cowsnap_disk_checkpoint {
	__le64 magic;
	__le32 crc; /* of this block */
	__le32 ops_crc; /* of the ops behind it */
	__u8 uuid[COWSNAP_UUID_SIZE];
	__le64 transaction;
	__le64 ops; /* how many */
	__u8 reserved[4048];
} __attribute__((packed));

/* ------------------------------------------------------------------ log --- */

/*
 * A log is the batches of one origin (all its epochs), or of one overlay.
 * Its segments follow each other in the order of their generations. The last
 * summary_blocks (1 for segments of up to 64 blocks, else 2) of a segment are
 * kept for its summary; batches fill the rest from the start, without gaps.
 */
#define COWSNAP_SUMMARY_BLOCKS(segment_blocks) ((segment_blocks) <= 64 ? 1u : 2u)

#define COWSNAP_RECORD_UNREADABLE 1u /* the origin could not be read: EIO */
#define COWSNAP_RECORD_MOVED 2u /* copied from another segment, same contents */

struct cowsnap_disk_record {
	__le64 block; /* first block of the run, in the origin */
	__le16 length; /* blocks */
	__le16 flags; /* COWSNAP_RECORD_* */
} __attribute__((packed));

/*
 * Header of a batch: one block, then "blocks" blocks of data. Behind the fixed
 * part: "records" struct cowsnap_disk_record, then one __le32 CRC32C for each
 * block of data. The data of the records stand one behind the other.
 * A batch without records is a mark: it proves what was durable before it.
 */
struct cowsnap_disk_batch {
	__le64 magic;
	__le32 crc; /* of the header block */
	__le32 activation; /* count when written; never falls from batch to batch */
	__u8 uuid[COWSNAP_UUID_SIZE];
	__le64 segment; /* number of the segment it stands in */
	__le64 generation; /* of that segment */
	__le64 sequence;
	__le64 durable_sequence; /* all up to here were durable; 0: none */
	__le64 segment_sequence; /* sequence of the segment's first batch */
	__le64 epoch;
	__le32 origin;
	__le16 position; /* block in the segment where this header stands */
	__le16 records;
	__le16 blocks; /* of data */
	__u8 reserved[38];
} __attribute__((packed));

#define COWSNAP_BATCH_HEADER_BYTES 128
/* Room for records and CRCs in a header. */
#define COWSNAP_BATCH_BODY_BYTES (COWSNAP_DISK_BLOCK_SIZE - COWSNAP_BATCH_HEADER_BYTES)

struct cowsnap_disk_summary_record {
	__le64 block;
	__le16 length;
	__le16 flags;
	__le16 position; /* of the first data block, in the segment */
	__le16 reserved;
} __attribute__((packed));

/*
 * Ends a closed segment, once all of its batches were released. Summaries of a
 * log are written in the order of its segments, and a segment is free only when
 * its own and all summaries before it are durable: what is missing in front of
 * the first segment without a summary was freed, not lost.
 * Behind the fixed part: the records in the order of their positions, then the
 * CRC32C of the data of each of their blocks, in the same order. One CRC over
 * all summary blocks.
 */
struct cowsnap_disk_summary {
	__le64 magic;
	__le32 crc;
	__le32 activation; /* count when written: may be above that of later batches */
	__u8 uuid[COWSNAP_UUID_SIZE];
	__le64 segment;
	__le64 generation;
	__le64 sequence; /* of the segment's last batch */
	__le64 segment_sequence; /* of the segment's first batch */
	__le64 durable_sequence; /* all up to here were durable */
	__le64 epoch;
	__le32 origin;
	__le16 records;
	__le16 blocks; /* sum of the records' lengths */
	__u8 reserved[40];
} __attribute__((packed));

#define COWSNAP_SUMMARY_HEADER_BYTES 128

/* ------------------------------------------------------- metadata slots --- */

/*
 * User space's own metadata. Each slot starts with this header, behind it
 * "length" bytes of JSON. The slot with the higher generation is valid, if it
 * checks; the other one is overwritten next, body and header, then flushed.
 * The kernel never looks inside.
 */
struct cowsnap_disk_slot {
	__le64 magic;
	__le32 crc; /* of this header (64 bytes) */
	__le32 body_crc; /* of the JSON */
	__u8 uuid[COWSNAP_UUID_SIZE];
	__le64 generation;
	__le32 length; /* bytes */
	__le32 schema; /* version of the JSON's schema */
	__u8 reserved[16];
} __attribute__((packed));

#define COWSNAP_SLOT_HEADER_BYTES 64

/* --------------------------------------------------------------- marker --- */

/*
 * Not in a store: the start of an origin while a rollback of it runs. Its contents
 * are a mixture of two states then, and must not be used without cowsnap. The first
 * COWSNAP_MARKER_BLOCKS of the origin, where file systems and others have what they
 * are known by, are zero but for this; block 0 is overwritten first and restored last.
 */
#define COWSNAP_MARKER_BLOCKS 32u

struct cowsnap_disk_marker {
	__le64 magic;
	__le32 crc;
	__le32 origin; /* origin id */
	__u8 uuid[COWSNAP_UUID_SIZE]; /* the store's */
	__u8 reserved[32];
	char text[448]; /* for whoever looks at the device; ends with zeros */
} __attribute__((packed));

#endif
