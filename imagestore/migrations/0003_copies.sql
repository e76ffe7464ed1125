-- The stores that hold an image beside its own (`store`), with commas between them.
ALTER TABLE images ADD COLUMN copies TEXT NOT NULL DEFAULT '';
