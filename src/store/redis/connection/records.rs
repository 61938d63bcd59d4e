//! The records of the number of partitions, which are checked before a connection carries calls.

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::errors::store_error;
use crate::model::{Partition, PartitionSet};
use crate::store::error::StoreError;
use crate::store::redis::format::layout::Layout;

impl Layout {
    /// Fails if the store has another number of partitions. Nothing is written then. Else records the number for the
    /// partitions in `served`, which are on the server of this connection.
    pub(super) async fn check_records(
        &self,
        commands: &mut MultiplexedConnection,
        served: PartitionSet,
    ) -> Result<(), StoreError> {
        let lacking = self.read(commands, served).await?;
        // A partition without a record may be one that the store, with another number, does not have.
        if lacking.is_empty() || !self.is_known() {
            return Ok(());
        }
        let written = self.write(commands, &lacking).await?;
        // Another instance may have recorded another number meanwhile.
        if let Err(error) = self.read(commands, served).await {
            let mut delete = redis::pipe();
            for partition in written {
                delete.cmd("DEL").arg(&self.keys(partition).layout).ignore();
            }
            delete.exec_async(commands).await.map_err(store_error)?;
            return Err(error);
        }
        Ok(())
    }

    /// Reads the records. Returns the partitions without one.
    async fn read(
        &self,
        commands: &mut MultiplexedConnection,
        served: PartitionSet,
    ) -> Result<Vec<Partition>, StoreError> {
        let mut read = redis::pipe();
        for partition in served.iter() {
            read.cmd("GET").arg(&self.keys(partition).layout);
        }
        read.cmd("GET").arg(self.other_record());
        let answers = commands.send_packed_commands(&read, 0, read.len()).await;
        let mut answers = answers.map_err(store_error)?.into_iter();
        let (mut lacking, mut is_known) = (Vec::new(), false);
        for (partition, answer) in served.iter().zip(&mut answers) {
            match answer {
                Value::Nil if partition == Partition::FIRST => {
                    lacking.push(partition);
                    is_known = true;
                }
                Value::Nil => lacking.push(partition),
                Value::BulkString(record) if self.accepts(&record) => is_known = true,
                Value::BulkString(record) => return Err(self.refusal(&record)),
                // The slot is on another server now, or the right to read is missing: that is no other number.
                _ => {}
            }
        }
        if let Some(Value::BulkString(record)) = answers.next() {
            return Err(self.refusal(&record));
        }
        if is_known {
            self.note_known();
        }
        Ok(lacking)
    }

    /// Writes the record of partitions that have none. Returns the partitions whose record was written.
    async fn write(
        &self,
        commands: &mut MultiplexedConnection,
        lacking: &[Partition],
    ) -> Result<Vec<Partition>, StoreError> {
        let [record, _] = self.records();
        let mut write = redis::pipe();
        for partition in lacking {
            let name = &self.keys(*partition).layout;
            write.cmd("SET").arg(name).arg(&record).arg("NX");
        }
        let answers = commands.send_packed_commands(&write, 0, write.len()).await;
        let answers = lacking.iter().zip(answers.map_err(store_error)?);
        let written = answers.filter(|(_, answer)| matches!(answer, Value::Okay));
        Ok(written.map(|(partition, _)| *partition).collect())
    }
}
